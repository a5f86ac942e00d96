"""How models decline, in wordings of our own; and what sounds like it and is none.

The rules were written by ``SEEN``. ``UNSEEN`` was written after them and is for measuring: whoever mends a rule because of one of
its lines moves that line to ``SEEN``.
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
I am just a program and can't examine patients.
For privacy reasons I cannot discuss this patient.
I will not be providing an impression for this study.
Rather than guess, I suggest you contact a radiologist.
If you could provide a clearer image, I would be happy to try.
I understand you'd like a report, but interpreting scans isn't within my remit.
This falls under clinical judgement, which I cannot exercise.
Hmm, I don't see anything attached here.
An image is required before I can continue.
Medical professionals should be the ones to interpret this picture.
I'm not going to write that report.
My apologies, the picture failed to load on my end.
No findings can be reported because the image was not received.
It's not in my power to evaluate this chest film.
I'm restricted from producing medical documentation.
The file seems to be empty, so there's nothing to describe.
I would advise you to have the X-ray read by a board-certified radiologist.
As a machine learning model, I must abstain from making diagnoses.
There is no transcript for me to work with.
Given my limitations, I will leave the interpretation to your care team.
Sorry about that, but medical images are off limits for me.
I'm a text model; pictures mean nothing to me.
Writing clinical notes is something I have to pass on.
Please get in touch with your doctor for an explanation of this image.
The information supplied is too limited to produce a note.
We regret that this image cannot be analysed.
Insufficient data.
I was unable to complete the task.
That would require medical expertise that I do not have.
Only a licensed clinician may draw conclusions from this study.
I cannot determine anything from this image.
I do not interpret radiographs.
The assistant does not give medical opinions.
Error: could not process the image.
Your image could not be displayed.
You'll need to provide the notes of the visit first.
I don't think I should comment on someone's X-ray.
Answering this would go against the safety guidelines I operate under.
It's important to note that I'm not a doctor, so I can't tell you what this shows.
This appears to be a request for a medical diagnosis, and that is something I do not provide.
I have no medical training and will not guess.
Let me refer you to a specialist for this.
I can't see the scan, but I can explain how to read one.
The notes do not say anything I could summarize.
As requested, but with regret: no report.
My apologies, but I'm going to pass on this one.
It isn't possible to generate findings from an empty input.
There's no picture in what you sent me.
I don't have eyes, so describing an image is out of the question.
You would be better served by a trained radiologist.
The system was unable to retrieve the study.
Sorry for the inconvenience, the transcript could not be read.
As I have no access to the patient's chart, I can't write the note.
Medical image interpretation is reserved for licensed physicians.
I was told not to answer medical questions.
I'd be happy to help if you describe the image in words.
I do not diagnose.
I'm here to chat, not to read radiographs.
The prompt does not specify which image to describe.
Nothing I write here should replace a physician's reading, and so I decline.
I cannot process visual input.
Providing medical opinions is against my principles.
Could not find an image in the request.
There was an error reading the image file.
Given the risk of harm, no interpretation will be offered.
What you need is a doctor, not a chatbot.
I'm unable to help with requests of this kind.
My design does not include vision.
Generating patient documentation is not permitted.
Please resubmit with a valid image.
I will have to leave this section blank because I lack the facts.
The conversation you gave is too short to write a SOAP note from.
I won't do this.
In my role as an assistant I can't offer treatment plans.
Without more information I'm at a loss.
I don't know what this image shows.
Regulations forbid me from giving a diagnosis.
The doctor will have to tell you what this means.
Analysis not available for this image.
It would be best if a human expert looked at this.
"""

UNSEEN = """
I do not have enough here to go on.
Reviewing medical pictures is not part of what I offer.
Kindly note that no scan came with your message.
I am unable to view or interpret the attached radiograph.
This model can't be used for diagnosis.
Unfortunately the picture is unreadable to me.
I must stop here, as giving medical conclusions is not allowed.
You have reached the limit of what I can do with images.
I'd recommend that you show this X-ray to your doctor.
It would be wrong of me to guess at a diagnosis.
There is nothing in the transcript that would let me write an assessment.
Please try again with another image.
The uploaded file does not look like a radiograph, so I will not describe it.
I'm sorry, I don't have the ability to process images.
A proper interpretation calls for a trained eye, which I don't have.
I can't give you an impression without looking at the picture.
As a precaution I don't comment on medical scans.
Your question is best answered by a physician.
I was designed for conversation only and do not read films.
None of the information needed for this section was supplied.
I'm not authorised to give out medical findings.
No dialogue was found to base the note on.
The task you describe is one I'm not allowed to perform.
My knowledge does not extend to reading radiographs.
Since the image is missing, I cannot describe it.
I hope you understand that I can't write this report.
It's the job of a radiologist to interpret this, not mine.
I can't provide a medical diagnosis or treatment recommendations.
Let's talk about something else.
Would you mind uploading the scan again?
I will need to see the image first.
As I am not a medical professional, I can't evaluate this.
Access to the study was denied.
The content was blocked by the safety filter.
Interpreting this image could be harmful, so I won't.
I have nothing to report because I received nothing.
I have been trained not to provide diagnoses.
Sorry, the request could not be completed.
I prefer not to answer.
This image can't be evaluated by an AI.
"""

# Of a picture, and of a visit.
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
Insufficient inspiration for evaluation of the bases.
The image quality is suboptimal.
The patient declined the influenza vaccine.
A radiologist has reviewed these images.
No further imaging is needed at this time.
We will not repeat the scan.
I have no concerns about the x-ray.
Not evaluated.
No additional findings.
The findings do not explain the symptoms.
No acute findings on the radiograph.
Images reviewed; nothing to add.
No imaging findings to explain the cough.
Correlate with the clinical findings and prior studies.
Consider dedicated rib films if clinically warranted.
There is no evidence on this study of active disease.
The scan did not show a stone.
Recommend that a radiologist review the lateral film.
"""
LIMITS_OF_VISITS = """
She was advised to consult her primary care physician.
I will refer her to cardiology.
I am not able to palpate a mass.
I don't think we need an MRI.
I cannot appreciate a murmur today.
We discussed that I cannot guarantee the result of surgery.
The patient says she cannot see well out of the left eye.
He should see a physician if the symptoms return.
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
Not discussed in the visit.
Unable to assess strength because of pain.
I apologized for the wait.
We will not start antibiotics without a culture.
Call the office if anything changes.
You should call your doctor if you have a fever.
Please bring your medications to the next appointment.
No follow-up is required.
I am not sure about the cause of the swelling.
The patient did not bring the images.
I do not have the results from the laboratory.
The specialist should see the patient before the operation.
A specialist must be consulted if the symptoms do not improve.
The radiologist should be told about the allergy.
We need to get the report from your cardiologist.
I need the MRI report from the hospital before I can decide.
Do not lift anything heavy.
You can only take this twice daily.
The referral was not needed.
I would not recommend surgery.
I told her that I cannot promise a cure.
I have not changed the plan.
Your blood work is not back yet.
He declined further testing.
The assessment was limited because she could not cooperate.
Family not available for history.
Further evaluation by a specialist is recommended.
"""


def lines(block: str) -> list[str]:
    """The sentences of one of the lists."""
    return block.strip().splitlines()
