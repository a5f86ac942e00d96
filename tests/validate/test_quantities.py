"""Numbers as they are spoken, and as a note writes them: what is the same and what is not."""

from drafts import note

from medgemma_app.validate import validate_soap
from medgemma_app.validate.quantities import DOSES, spoken_quantities, written_quantities

SAME = """
Glucose 150-160. | sugars are like one fifty one sixty
BP 120/80. | your blood pressure is one twenty over eighty .
BP 120/80 mmHg. | blood pressure of a hundred and twenty over eighty
BP 142/91. | b p was one hundred forty two over ninety one
BP 108/64. | it was one oh eight over sixty four
Temp 98.6 F. | temperature ninety eight point six
Temperature 98.6°F. | temp is ninety-eight point six
Temp 101.3. | one oh one point three fever
Temp 37.0 C. | temperature was 98.6
Temp 38.5 °C. | temperature one hundred one point three
SpO2 98%. | oxygen is ninety eight percent on room air
SpO2 94% on RA. | o two sat of ninety four
HR 72 bpm. | heart rate is seventy-two
Pulse 104. | pulse one oh four
Weight 180 lb. | you weigh one eighty
Ibuprofen 200 mg. | ibuprofen , one of the two-hundreds
Weight 81.6 kg. | you weigh one hundred and eighty pounds
Weight 150 lbs. | sixty eight kilograms
Height 5'6". | you are five foot six
WBC 17.4 × 10⁹/L. | white count seventeen point four
Height 168 cm. | five feet six inches tall
Height 5 ft 6 in. | you're five six
A1c 7.2%. | hemoglobin a one c was seven point two
A1c of 7.2. | a1c is seven two
Metformin 250 mg BID. | metformin two fifty milligrams twice a day
Metformin 1000 mg twice daily. | metformin a thousand milligrams two times a day
Metformin 1,000 mg. | metformin one thousand
Metformin 1000 mg. | Metformine 1 000 mg
Metformin 1 000 mg. | metformin one thousand
Metformin 1500 mg. | Metformine 1\N{NARROW NO-BREAK SPACE}500 mg
Metformin 1500 mg. | Metformin 1’500 mg
Platelets 250000. | Plaquettes 250\N{NO-BREAK SPACE}000
Ferritin 1234.5 µg/L. | Ferritin 1.234,5 µg/l
WBC 12,300/mm3. | Leucocytes 12 300/mm3
WBC 12300/µL. | Leucocytes 12 300 /µl
NT-proBNP 3450 ng/L. | NT-proBNP 3 450 ng/l
Metformin 1 g daily. | metformin a thousand milligrams
Lisinopril 2.5 mg daily. | lisinopril two and a half milligrams
Lisinopril 2.5 mg. | lisinopril two point five
Levothyroxine 112 mcg. | levothyroxine one twelve
Levothyroxine 0.1 mg. | levothyroxine one hundred micrograms
Warfarin 7.5 mg. | coumadin seven and a half
Amoxicillin 875 mg. | amoxicillin eight seventy five
Prednisone 40 mg for 5 days. | prednisone forty milligrams for five days
Ibuprofen 400-600 mg. | ibuprofen four hundred to six hundred milligrams
Tylenol 650 mg. | tylenol six fifty
Insulin 10 units. | insulin ten units
Aspirin 325 mg. | aspirin three twenty five
Hemoglobin 11.2 g/dL. | hemoglobin eleven point two
WBC 12.4. | white count twelve point four
WBC 12,400. | white count of twelve point four thousand
Platelets 150,000. | platelets one hundred fifty thousand
Creatinine 1.2 mg/dL. | creatinine one point two
Creatinine 0.9. | creatinine point nine
Glucose 145. | sugar was one forty five
LDL 130. | l d l one thirty
EF 35%. | ejection fraction thirty five percent
EF 55-60%. | ejection fraction of fifty five to sixty percent
Blood pressure 130s/80s. | blood pressures in the one thirties over eighties
Albuterol 90 mcg 2 puffs. | albuterol ninety micrograms two puffs
Vitamin D 2000 IU daily. | vitamin d two thousand units
Hydrocodone 5/325 mg. | norco five three twenty five
Pain 7/10. | pain is a seven out of ten
Potassium 4.1. | potassium four point one
TSH 2.35. | t s h two point three five
PSA 4. | psa was four
INR 2.5. | inr two point five
BMI 31. | b m i thirty one
BP 120/80. | BP: 120 / 80
BP 118/76 mmHg, HR 80, RR 18, T 98.4 F, SpO2 97%. | Vitals: BP 118/76, P 80, R 18, T 98.4, O2 sat 97% RA
Lasix 80 mg. | eighty of lasix
Temperature 99.1. | ninety nine one
Heart rate 88. | heart rate in the high eighties, eighty eight
Synthroid 0.088 mg. | synthroid eighty eight micrograms
Omeprazole 20 mg. | twenty milligram prilosec
Respiratory rate 20. | respirations are twenty
Weight 72.5 kg. | weight seventy two and a half kilos
Troponin 0.04 ng/mL. | troponin point oh four
Levothyroxine 125 mcg. | synthroid point one two five milligrams
eGFR 45 mL/min/1.73 m². | g f r is forty five
Platelets 250 x10^9/L. | platelets are two hundred and fifty thousand
WBC 11.4. | white count is eleven thousand four hundred
Ht 5'4", Wt 180 lb. | you weigh one hundred and eighty pounds , five foot four
Height 178 cm, weight 82 kg, BMI 25.9. | weight eighty two kilos , one hundred seventy eight centimeters tall
Augmentin 875/125 mg. | augmentin eight seventy five one twenty five
Ibuprofen 160 mg. | ibuprofen the hundred and sixty milligrams
CRP 34, B12 390. | c r p is thirty four , b twelve three ninety
BP 145/80. | one forties one forty five over eighty something
RR 36, SpO2 99%. | breathing is thirty six ninety nine percent on room air
Tmax 39.1 °C. | the highest was one oh two point three last night
Weight 103.4 kg. | sixteen stone four , so two hundred and twenty eight pounds
Call if febrile after 48 h. | if there is a fever after forty eight hours
BNP 310, down by 330. | b n p three ten , down from six forty
Urine albumin/creatinine ratio 24, creatinine 0.9. | creatinine point nine , and the urine ratio is twenty four
Phosphorus 4.4, UACR 410. | phosphorus four point four , albumin ratio four ten
HbA1c 53 mmol/mol. | a one c is fifty three
"""
EITHER = """
WBC 12300/µl. | Leukozyten 12.300/µl
Leukozyten 12.300/µl. | white count twelve thousand three hundred
Weight 3250 g. | Gewicht 3.250 g
Fosfomycin 1250 mg. | Fosfomycin 1.250 mg
Metformin 1000 mg, Ramipril 2.5 mg. | Metformin 1.000 mg, Ramipril 2,5 mg
Volume 1.25 ml. | Volumen 1,250 ml
Creatinine 1.250. | creatinine one point two five
BNP 3100 pg/ml. | BNP 3.100 pg/ml
Ferritin 1.250 µg/l. | ferritin twelve fifty
Lactate 1250. | Laktat 1.250
"""
OTHER = """
BP 150/95. | your blood pressure is one twenty over eighty .
Temp 102.4 F. | temperature ninety eight point six
Heart rate 110. | heart rate is seventy-two
SpO2 88%. | oxygen is ninety eight percent on room air
Metformin 500 mg. | metformin two fifty milligrams twice a day
Lisinopril 25 mg. | lisinopril two and a half milligrams
A1c 8.4%. | hemoglobin a one c was seven point two
Weight 210 lb. | you weigh one eighty
Creatinine 2.1. | creatinine one point two
Warfarin 5 mg. | coumadin seven and a half
Potassium 5.6. | potassium four point one
RR 28. | respirations are twenty
EF 25%. | ejection fraction fifty five percent
Insulin 40 units. | insulin ten units
Prednisone 60 mg. | prednisone forty milligrams for five days
Hemoglobin 8.1. | hemoglobin eleven point two
Metformin 2500 mg. | Metformin 2 500 mg tablets
Metformin 1000 mg. | Metformin 1, 000 mg
"""
DERIVED = """
BNP down by 500. | b n p three ten , down from six forty
Goal BP <130/80. | your blood pressure is high
Return for a temperature above 101.5 F. | come back if there is fever
Creatinine 1.1 mg/dL (97 µmol/L). | creatinine one point one
"""


def pairs(table):
    return [tuple(line.split(" | ")) for line in table.strip().splitlines()]


def issues(written, spoken):
    """The codes, but for remarks, of a note that has the one and a source that has the other; and "dose" for a dose of the note only."""
    found = validate_soap(note(objective=written), source=f"a cough . {spoken} . it is bronchitis").issues
    said = {value for one in spoken_quantities(spoken) for value in one.readings}
    doses = [one for one in written_quantities(written) if one.kind in DOSES]
    return {issue.code for issue in found if issue.severity != "info"} | {"dose" for one in doses if said.isdisjoint(one.readings)}


def test_a_number_is_the_same_however_it_is_spoken():
    assert [pair for pair in pairs(SAME) if issues(*pair)] == []


def test_a_number_with_three_digits_after_a_point_or_a_comma_may_be_more_than_a_thousand_or_less():
    assert [pair for pair in pairs(EITHER) if issues(*pair)] == []


def test_another_number_is_not_the_same_however_it_is_spoken():
    assert [pair for pair in pairs(OTHER) if not issues(*pair) & {"invented-value", "dose"}] == []


def test_a_limit_a_total_a_change_and_a_conversion_need_no_number_of_the_source():
    assert [pair for pair in pairs(DERIVED) if "invented-value" in issues(*pair)] == []
