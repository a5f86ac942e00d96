"""How models decline, in wordings of our own: some to write the rules by, some kept apart; and what sounds like it and is none.

Both lists were written before the rules were changed. ``UNSEEN`` is for measuring: whoever mends a rule because of one of its
lines moves that line to ``SEEN``.
"""

from __future__ import annotations

SEEN = """
I'm sorry, I can't provide a radiology report for this image.
I must clarify that I'm a text-based model and have no way of viewing pictures.
Regrettably, a report cannot be generated from the supplied input.
This request falls outside of what I am able to do.
For an accurate interpretation, please have this image reviewed by a qualified radiologist.
I would recommend consulting a healthcare professional for the interpretation of this image.
As a large language model, medical image interpretation is not something I can perform.
Interpretation of this study requires a licensed radiologist.
It is not possible for me to determine the findings from what was sent.
I don't have access to the image you are referring to.
I have not been given any clinical notes to summarize.
No clinical information has been supplied, so a SOAP note cannot be created.
My purpose is to assist with information, not to diagnose.
Providing a diagnosis goes beyond my capabilities.
I'd rather not speculate about what this radiograph shows.
Unfortunately, I'm not in a position to read this film.
Due to safety policies, the assistant will not describe medical images.
There is insufficient information to generate a report.
The image appears to be blank, and therefore I cannot describe it.
I apologize, but the conversation does not contain enough detail to write a plan.
Could you share the transcript so that I can write the note?
Nothing was attached to your message.
I'm only a virtual assistant; ask your doctor about this.
Sorry, that's not something I can help with.
I was not built to analyze X-rays.
Analyzing medical images is beyond my scope.
I cannot, in good conscience, offer a medical opinion here.
Without seeing the picture, no impression can be given.
To write this note, I would need the details of the visit.
You should seek the advice of a physician rather than rely on me.
Image analysis is not supported by this model.
Let me know once you have uploaded the chest film.
I am going to have to decline this task.
This is a question for a medical professional, not for me.
I do not possess the training needed to interpret this scan.
Cannot generate findings: no image data.
It wouldn't be responsible of me to draw conclusions from this image.
Please note that I'm an AI and this is not medical advice; I can't assess the scan.
The requested content violates usage policy.
I'm afraid I can't do that.
"""

UNSEEN = """
Apologies, but reading X-rays is not something I'm able to do.
I lack the capability to examine pictures.
We're unable to generate an interpretation at this time.
As an artificial intelligence, I have to refer you to a doctor for this.
The picture you mentioned didn't come through.
I see no attachment in this conversation.
Unable to provide a report due to the lack of an image.
This assistant isn't equipped to evaluate radiographs.
I should not be giving a diagnosis.
My training does not allow me to comment on medical images.
A radiologist needs to look at this; I can't.
I'm not allowed to interpret medical imaging.
I refuse to answer this request.
Diagnostic interpretation can only be provided by a licensed physician.
It's best to ask a specialist to interpret the X-ray.
Please consult your healthcare provider for a reading of this study.
The input does not include any information about the patient, so I can't complete the note.
I wasn't able to find any notes in your message.
To proceed, kindly send the image again.
I would love to help, but I can't view images.
Being a language model, I can't see what is in the picture.
I can't make out anything from the file you sent.
It is beyond my ability to produce a medical document.
I cannot create medical records.
Generating a SOAP note from this content would be inappropriate.
I don't feel qualified to assess this radiograph.
Sorry, no.
I do not have enough context to fill in this section.
Not enough data was given to make an assessment.
I can offer general information about chest X-rays, but not a reading of this one.
Medical advice should come from a professional, so I will refrain from commenting.
There's no way for me to tell what this image shows.
What you ask for is against the rules I follow.
I have no ability to look at files.
Such an analysis must be carried out by a trained clinician, and I am not one.
I am prevented from giving clinical recommendations.
Your request could not be processed.
As a chatbot, I don't do diagnoses.
I can't comply with the request to draft this report.
Can you send the dialogue again? I did not receive it.
The model is unable to respond to this prompt.
I'm declining to describe this picture.
It would be unsafe for an AI to write the treatment plan.
I have been instructed not to interpret scans.
Image not available; no report possible.
I am just a program and can't examine patients.
For privacy reasons I cannot discuss this patient.
I will not be providing an impression for this study.
Rather than guess, I suggest you contact a radiologist.
If you could provide a clearer image, I would be happy to try.
"""

LIMITS = """
The lateral view could not be obtained.
I do not see a focal consolidation.
We cannot exclude early pneumonia at the left base.
Evaluation of the apices is limited by overlying soft tissue.
The study is limited by patient rotation and low lung volumes.
The patient was unable to take a deep breath.
Clinical correlation is recommended.
Please correlate with the patient's symptoms.
Recommend consultation with orthopedics.
I recommend a follow-up radiograph in six weeks.
I would suggest CT of the chest for further evaluation.
No prior images are available for comparison.
The left costophrenic angle is not included on the image.
She was advised to consult her primary care physician.
Insufficient inspiration for evaluation of the bases.
The image quality is suboptimal.
I will refer her to cardiology.
I am not able to palpate a mass.
I don't think we need an MRI.
I cannot appreciate a murmur today.
We discussed that I cannot guarantee the result of surgery.
The patient says she cannot see well out of the left eye.
He should see a physician if the symptoms return.
The patient declined the influenza vaccine.
He is not able to provide a history.
The history could not be obtained because of dementia.
The patient could not provide a list of medications.
Please call the office with any questions.
I have asked her to bring the images to the next visit.
The outside report is not available at this time.
She does not have enough information about her family history.
I am going to order a chest X-ray.
Results are not available yet.
No imaging was performed today.
Not documented.
Not discussed in the visit.
Unable to assess strength because of pain.
I apologized for the wait.
A radiologist has reviewed these images.
We will not start antibiotics without a culture.
"""


def lines(block: str) -> list[str]:
    """The sentences of one of the lists."""
    return block.strip().splitlines()
