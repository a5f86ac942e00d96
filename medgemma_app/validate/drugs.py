"""Names of medications: generic and brand names as one, and the stems that tell a drug's name.

The names are those of the most prescribed drugs in the United States (ClinCalc DrugStats, from MEPS) and of usual hospital and
over-the-counter drugs, brands as in RxNorm; the stems are the USAN Council's. A list of this size misses rare drugs: what it does
not know, no check judges.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from medgemma_app.validate.terms import words

# One class a line: its names for the reader, a colon, then drugs, each with its other names after slashes; "_" joins words.
# A class word is no name: a note may say "statin" where the source names one, and a source that says "statin" names none.
_CLASSES = """
statin: atorvastatin/lipitor rosuvastatin/crestor simvastatin/zocor pravastatin/pravachol lovastatin pitavastatin/livalo
cholesterol: ezetimibe/zetia fenofibrate/tricor gemfibrozil/lopid evolocumab/repatha alirocumab/praluent
ace_inhibitor antihypertensive: lisinopril/zestril/prinivil enalapril/vasotec ramipril/altace benazepril/lotensin captopril quinapril
arb antihypertensive: losartan/cozaar valsartan/diovan irbesartan/avapro olmesartan/benicar telmisartan candesartan/atacand entresto
calcium_channel_blocker antihypertensive: amlodipine/norvasc diltiazem/cardizem nifedipine/procardia verapamil/calan felodipine
beta_blocker antihypertensive: metoprolol/lopressor/toprol atenolol/tenormin carvedilol/coreg propranolol/inderal bisoprolol labetalol
beta_blocker antihypertensive: nebivolol/bystolic sotalol nadolol
antihypertensive: hydralazine clonidine/catapres doxazosin/cardura prazosin minoxidil terazosin/hytrin isosorbide/imdur nitroglycerin/nitro
antianginal: ranolazine/ranexa
diuretic water_pill: furosemide/frusemide/lasix hydrochlorothiazide/hctz/microzide torsemide/demadex bumetanide/bumex chlorthalidone
diuretic water_pill: spironolactone/aldactone metolazone triamterene/dyazide/maxzide eplerenone acetazolamide/diamox
blood_thinner anticoagulant: warfarin/coumadin apixaban/eliquis rivaroxaban/xarelto dabigatran/pradaxa enoxaparin/lovenox heparin
blood_thinner antiplatelet: clopidogrel/plavix ticagrelor/brilinta prasugrel/effient dipyridamole
antiplatelet nsaid: aspirin/asa/ecotrin/bayer
antiarrhythmic: amiodarone digoxin/lanoxin flecainide dofetilide adenosine
thyroid thyroid_medication: levothyroxine/synthroid/levoxyl/unithroid liothyronine/cytomel methimazole/tapazole propylthiouracil
diabetes_medication oral_agent: metformin/glucophage glipizide/glucotrol glyburide glimepiride/amaryl pioglitazone/actos acarbose
diabetes_medication: sitagliptin/januvia linagliptin/tradjenta empagliflozin/jardiance dapagliflozin/farxiga canagliflozin/invokana
diabetes_medication: semaglutide/ozempic/wegovy/rybelsus liraglutide/victoza/saxenda dulaglutide/trulicity tirzepatide/mounjaro
insulin: glargine/lantus/basaglar lispro/humalog aspart/novolog detemir/levemir degludec/tresiba insulin humulin novolin
pain_medication nsaid anti_inflammatory: ibuprofen/motrin/advil naproxen/aleve/naprosyn meloxicam/mobic diclofenac/voltaren
pain_medication nsaid anti_inflammatory: ketorolac/toradol celecoxib/celebrex indomethacin/indocin nabumetone etodolac
pain_medication: acetaminophen/tylenol/paracetamol/apap excedrin lidocaine/lignocaine/lidoderm capsaicin
pain_medication opioid narcotic: oxycodone/oxycontin/percocet/roxicodone hydrocodone/norco/vicodin/lortab tramadol/ultram morphine
pain_medication opioid narcotic: hydromorphone/dilaudid fentanyl/duragesic codeine methadone buprenorphine/suboxone tapentadol/nucynta
opioid_antagonist: naloxone/narcan naltrexone/vivitrol
muscle_relaxant: cyclobenzaprine/flexeril methocarbamol/robaxin tizanidine/zanaflex baclofen carisoprodol/soma
antidepressant ssri: sertraline/zoloft fluoxetine/prozac escitalopram/lexapro citalopram/celexa paroxetine/paxil
antidepressant: bupropion/wellbutrin venlafaxine/effexor duloxetine/cymbalta trazodone/desyrel mirtazapine/remeron amitriptyline/elavil
antidepressant: nortriptyline/pamelor desvenlafaxine/pristiq doxepin vortioxetine/trintellix
antianxiety benzodiazepine: alprazolam/xanax lorazepam/ativan clonazepam/klonopin diazepam/valium temazepam/restoril buspirone/buspar
sleep_aid: zolpidem/ambien eszopiclone/lunesta melatonin suvorexant
antipsychotic: quetiapine/seroquel olanzapine/zyprexa risperidone/risperdal aripiprazole/abilify haloperidol/haldol ziprasidone/geodon
antipsychotic: clozapine lurasidone/latuda
mood_stabilizer anticonvulsant: lithium lamotrigine/lamictal valproate/depakote/divalproex carbamazepine/tegretol oxcarbazepine
anticonvulsant: levetiracetam/keppra phenytoin/dilantin topiramate/topamax gabapentin/neurontin pregabalin/lyrica lacosamide/vimpat
stimulant: methylphenidate/ritalin/concerta adderall/amphetamine lisdexamfetamine/vyvanse atomoxetine/strattera modafinil/provigil
migraine triptan: sumatriptan/imitrex rizatriptan/maxalt zolmitriptan erenumab/aimovig ubrogepant/ubrelvy
dementia: donepezil/aricept memantine/namenda rivastigmine/exelon
parkinson: levodopa/sinemet/carbidopa pramipexole/mirapex ropinirole/requip amantadine benztropine/cogentin riluzole
antacid ppi acid_reflux: omeprazole/prilosec pantoprazole/protonix esomeprazole/nexium lansoprazole/prevacid famotidine/pepcid
antacid: ranitidine/zantac sucralfate/carafate tums/calcium_carbonate maalox mylanta rabeprazole/aciphex dexlansoprazole/dexilant
nausea antiemetic: ondansetron/zofran promethazine/phenergan metoclopramide/reglan prochlorperazine/compazine meclizine/antivert
laxative stool_softener: docusate/colace senna/senokot polyethylene_glycol/miralax bisacodyl/dulcolax psyllium/metamucil lactulose
antidiarrheal: loperamide/imodium pepto_bismol/bismuth lomotil dicyclomine/bentyl
inhaler bronchodilator: albuterol/salbutamol/proventil/ventolin/proair ipratropium/atrovent/duoneb tiotropium/spiriva levalbuterol/xopenex
inhaler: budesonide/pulmicort/symbicort fluticasone/flonase/flovent/advair salmeterol mometasone/nasonex formoterol breo trelegy anoro
asthma_medication: montelukast/singulair zafirlukast omalizumab/xolair theophylline roflumilast
steroid corticosteroid: prednisone/deltasone methylprednisolone/medrol/solumedrol/depo_medrol prednisolone dexamethasone/decadron
steroid corticosteroid: hydrocortisone/cortef triamcinolone/kenalog betamethasone/celestone clobetasol/temovate
allergy_medication antihistamine: cetirizine/zyrtec loratadine/claritin fexofenadine/allegra diphenhydramine/benadryl hydroxyzine/vistaril
allergy_medication antihistamine: levocetirizine/xyzal azelastine epinephrine/adrenaline/epipen
decongestant cough_medicine: pseudoephedrine/sudafed guaifenesin/mucinex/robitussin benzonatate/tessalon dextromethorphan/delsym
antibiotic penicillin: amoxicillin/amoxil augmentin/clavulanate/co_amoxiclav penicillin ampicillin/unasyn piperacillin/zosyn nafcillin
antibiotic cephalosporin: cephalexin/keflex ceftriaxone/rocephin cefdinir/omnicef cefuroxime/ceftin cefazolin/ancef cefepime
antibiotic: dicloxacillin azithromycin/zithromax/z_pak clarithromycin/biaxin erythromycin doxycycline/vibramycin minocycline tetracycline
antibiotic: ciprofloxacin/cipro levofloxacin/levaquin moxifloxacin metronidazole/flagyl clindamycin/cleocin vancomycin linezolid
antibiotic: sulfamethoxazole/trimethoprim/bactrim/septra sulfa nitrofurantoin/macrobid/macrodantin gentamicin tobramycin meropenem
antibiotic: rifampin isoniazid mupirocin/bactroban bacitracin/neosporin rifaximin/xifaxan fosfomycin
antiviral: acyclovir/zovirax valacyclovir/valtrex oseltamivir/tamiflu paxlovid/nirmatrelvir remdesivir famciclovir tenofovir/truvada/viread
antifungal: fluconazole/diflucan nystatin terbinafine/lamisil ketoconazole/nizoral clotrimazole/lotrimin
antimalarial: hydroxychloroquine/plaquenil ivermectin/stromectol
dmard immunosuppressant: methotrexate/trexall azathioprine/imuran tacrolimus/prograf mycophenolate/cellcept cyclosporine leflunomide/arava
dmard biologic: adalimumab/humira etanercept/enbrel infliximab/remicade rituximab/rituxan tofacitinib/xeljanz ustekinumab/stelara
gout: allopurinol/zyloprim colchicine/colcrys febuxostat/uloric probenecid
bone: alendronate/fosamax risedronate/actonel ibandronate/boniva zoledronic/reclast denosumab/prolia raloxifene/evista
urinary prostate: tamsulosin/flomax finasteride/proscar/propecia dutasteride/avodart oxybutynin/ditropan tolterodine/detrol mirabegron
urinary: solifenacin/vesicare phenazopyridine/pyridium
erectile: sildenafil/viagra tadalafil/cialis vardenafil/levitra
hormone birth_control: estradiol/estrace premarin/estrogen progesterone/medroxyprogesterone/provera/depo_provera norethindrone
hormone birth_control: levonorgestrel/mirena ethinyl testosterone/androgel
cancer chemotherapy hormone_blocker: tamoxifen/nolvadex letrozole/femara anastrozole/arimidex exemestane cisplatin
cancer chemotherapy: carboplatin paclitaxel/taxol doxorubicin cyclophosphamide bevacizumab/avastin pembrolizumab/keytruda nivolumab
cancer chemotherapy: imatinib/gleevec leuprolide/lupron fluorouracil/5fu capecitabine oxaliplatin
smoking: varenicline/chantix nicotine/nicorette
weight_loss: phentermine orlistat
eye_drops: latanoprost/xalatan timolol/timoptic brimonidine dorzolamide
iron: ferrous_sulfate/iron/ferrous
vitamin supplement: cholecalciferol/vitamin_d ergocalciferol cyanocobalamin/b12/b_12/b_twelve folate/folic_acid biotin turmeric
vitamin supplement: potassium_chloride/klor_con magnesium_oxide glucosamine
skin: tretinoin/retin_a isotretinoin/accutane benzoyl_peroxide/benzoyl permethrin
vaccine: shingrix pneumovax prevnar
contrast anesthetic: bupivacaine/marcaine propofol ketamine midazolam/versed
"""
_STEM = re.compile(
    r"[a-z]{3,}(?:pril|sartan|olol|statin|gliptin|gliflozin|glutide|prazole|conazole|oxacin|cillin|mycin|cycline|azepam|azolam|triptan"
    r"|dipine|parin|xaban|gatran|setron|tidine|lukast|dronate|fibrate|thiazide|semide|zosin|terol|asone|olone|onide|profen|coxib|oxetine"
    r"|pramine|triptyline|peridone|apine|barbital|ciclovir|cyclovir|navir|tegravir|buvir|vudine|ximab|zumab|lumab|tinib|ciclib|rubicin"
    r"|platin|taxel|relin|afil|steride|caine|curium|formin|arone|bradine|stigmine|salamine|salazine|pressin|oprost|[ui]mab|glitazone|vaptan"
    r"|gepant|penem|bactam|micin|giline|capone|glinide|codone|morphone|curonium)"
)
_NO_DRUGS = frozenset("april protocol nystatin cortisol alcohol control patrol testosterone cholesterol".split())  # noqa: SIM905


def _names() -> Mapping[str, str]:
    rows = [drug.replace("_", " ").split("/") for line in _CLASSES.strip().splitlines() for drug in line.partition(":")[2].split()]
    return MappingProxyType({name: row[0] for row in rows for name in row})


DRUGS = _names()
OTHER_NAMES = {generic: tuple(name for name, of in DRUGS.items() if of == generic) for generic in dict.fromkeys(DRUGS.values())}
# "Insulin" is what a note may call any of them, and a brand of two drugs names both.
_ALSO = {
    "insulin": " ".join(line.partition(":")[2].replace("/", " ") for line in _CLASSES.splitlines() if line.startswith("insulin:")),
    "acetaminophen": "percocet norco vicodin lortab excedrin",
    "hydrochlorothiazide": "dyazide maxzide zestoretic hyzaar",
    "formoterol": "symbicort",
    "salmeterol": "advair",
    "valsartan": "entresto",
    "naloxone": "suboxone",
    "metformin": "janumet",
}
OTHER_NAMES.update({generic: (*OTHER_NAMES[generic], *names.split()) for generic, names in _ALSO.items()})


@lru_cache(maxsize=4096)
def drug(word: str) -> str | None:
    """The generic name that a word in lower case stands for; an unknown drug, known by its stem, stands for itself."""
    if word in DRUGS:
        return DRUGS[word]
    return word if word not in _NO_DRUGS and len(word) <= 30 and _STEM.fullmatch(word) else None


@lru_cache(maxsize=2)
def mentions(text: str) -> Sequence[tuple[int, int, str]]:
    """(start, end, generic name) of every drug of a text."""
    said = words(text)
    return tuple((start, end, name) for word, start, end in zip(*said, strict=True) if (name := drug(word)))
