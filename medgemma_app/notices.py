"""What every user is told: what the outputs are worth, and on what terms the weights come."""

NOTICE = "Research use only. Outputs are drafts that need independent verification. Not a medical device."
DEMO_NOTICE = "The demo model knows drawn phantoms and synthetic notes only: what it says means nothing clinically."
TERMS = "MedGemma's weights come under the Health AI Developer Foundations terms of use."
BLIND_SPOT = (
    "The checks compare text with text. They cannot see whether a sentence is true of the picture or of the patient: "
    "a missed nodule reads as well as a found one."
)
