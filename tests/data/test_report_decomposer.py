import pickle

import pytest

from medvlp.data.report_clauses import read_clause, split_clauses
from medvlp.data.report_decomposer import RuleBasedDecomposer
from medvlp.data.report_terms import ReportTerms, TermMatcher

TERMS = ReportTerms()
FOUR = ("lung", "heart", "esophagus", "aorta")
# the 36 of RADAR as the structures of TotalSegmentator are merged
THIRTY_SIX = """adrenal gland, aorta, erector spinae, brain, clavicle, large bowel, duodenum,
esophagus, face, femur, gallbladder, gluteus, heart, hip joint, humerus, iliac artery, iliac vein,
iliopsoas, inferior vena cava, kidney, liver, lung, pancreas, portal vein, pulmonary artery, rib,
sacrum, scapula, small bowel, spleen, stomach, trachea, bladder, cervical vertebrae,
lumbar vertebrae, thoracic vertebrae"""


@pytest.mark.parametrize(
    ("text", "anatomies", "status"),
    [
        ("No pleural effusion was detected.", "lung", "normal"),
        ("Pericardial effusion-thickening was not observed.", "heart", "normal"),
        (
            "No pericardial effusion except for a nodule in the lung",
            "heart lung",
            "abnormal",
        ),
        ("The ascending aorta is wider than normal", "aorta", "abnormal"),
        ("The pulmonary artery is dilated.", "pulmonary_artery", "abnormal"),
        ("A 4 mm nodule is observed.", "lung", "abnormal"),
        ("A nodule in the thyroid.", "thyroid", "abnormal"),
        ("Sliding type hiatal hernia.", "esophagus", "abnormal"),
        ("Heart size is normal.", "heart", "normal"),
        ("No change in the nodule of the liver.", "liver", "abnormal"),
        ("The heart could not be evaluated optimally.", "heart", "neutral"),
        ("The diameter of the thoracic aorta is 30 mm.", "aorta", "neutral"),
        ("Height loss in the T12 vertebra", "thoracic_vertebrae", "abnormal"),
        ("In the upper abdominal organs, a cyst in the liver", "liver", "abnormal"),
        ("Pleural thickening (secondary to heart failure?).", "lung", "abnormal"),
        ("A sliding hernia behind the heart", "esophagus", "abnormal"),
        ("A nodule adjacent to the aorta", "lung", "abnormal"),
        ("Dilatation at the level of the aorta", "aorta", "abnormal"),
        ("Mild effusion without pneumothorax", "lung", "abnormal"),
        ("Follow-up is recommended.", "", "neutral"),
        ("Pleural effusion is absent.", "lung", "normal"),
        ("Pleural effusion and pneumothorax are absent, a nodule is seen", "lung", "abnormal"),
        ("The left kidney is absent.", "kidney", "abnormal"),
        ("The large bowel is normal.", "large_bowel", "normal"),
        ("The large bowel is enlarged.", "large_bowel", "abnormal"),
        ("Mediastinal large vessels are normal.", "mediastinum", "normal"),
    ],
)
def test_what_a_clause_says(text, anatomies, status):
    clause = read_clause(text, TERMS)
    assert (set(clause.anatomies), clause.status) == (set(anatomies.split()), status)


def test_denied_findings_are_told_from_affirmed_ones():
    clause = read_clause("Mild effusion without pneumothorax", TERMS)
    assert (clause.affirmed, clause.denied) == ({"effusion*"}, {"pneumothorax"})
    assert read_clause("No effusion on the left.", TERMS).denied == frozenset()


def test_terms_match_whole_words_the_longest_first():
    matcher = TermMatcher({"aorta": ("a",), "aortic arch": ("b",), "t#": ("c",), "vertebra*": ()})
    assert [match.term for match in matcher.find(["aortic", "arch", "aorta"])] == [
        "aortic arch",
        "aorta",
    ]
    assert [match.term for match in matcher.find(["t12", "t123", "tx", "t", "vertebrae"])] == [
        "t#",
        "vertebra*",
    ]


@pytest.mark.parametrize(
    ("sentence", "clauses"),
    [
        ("Trachea, both main bronchi are open.", 1),
        ("No pleural effusion, pericardial effusion or thickening was detected.", 1),
        ("Heart size is normal and no effusion is seen", 2),
        ("As far as can be observed: the heart is large, but the aorta is normal", 3),
        ("", 0),
    ],
)
def test_clauses_are_cut_only_before_a_verb_of_their_own(sentence, clauses):
    assert len(split_clauses(sentence)) == clauses


def test_a_report_by_hand():
    report = RuleBasedDecomposer(FOUR)(
        {
            "findings": "When examined in the lung parenchyma window; A 5 mm nodule is seen in the "
            "right lung. It is stable. No pleural effusion. Thoracic esophagus calibration was "
            "normal and no wall thickening was detected. Follow-up is recommended.",
            "impression": "Calcified plaques in the aorta, hiatal hernia.",
        }
    )
    assert report.descriptions == {
        "lung": "It is stable. No pleural effusion.",
        "esophagus": "Thoracic esophagus calibration was normal. No wall thickening was detected.",
    }
    assert report.conclusions == {
        "lung": "A 5 mm nodule is seen in the right lung.",
        "esophagus": "Hiatal hernia.",
        "aorta": "Calcified plaques in the aorta.",
    }
    assert report.unassigned == ("Follow-up is recommended.",)
    assert (report.num_clauses, report.contradictions) == (8, ())


def test_by_fvlms_rule_only_the_impression_makes_an_organ_abnormal():
    sections = {"findings": "Cardiomegaly.", "impression": "Emphysema in both lungs."}
    report = RuleBasedDecomposer(FOUR, abnormal="impression")(sections)
    assert report.descriptions == {"heart": "Cardiomegaly."}
    assert list(report.conclusions) == ["lung"]
    assert list(RuleBasedDecomposer(FOUR)(sections).conclusions) == ["lung", "heart"]


@pytest.mark.parametrize(
    ("report", "organs"),
    [
        ("The heart is normal. Pericardial effusion.", ("heart",)),
        ("No pericardial effusion. Pericardial effusion on the left.", ("heart",)),
        ("Heart size is normal. Pericardial effusion.", ()),
        ("No pleural effusion on the left. Pleural effusion on the right.", ()),
        ("No pleural effusion. Pericardial effusion.", ()),
        ("No nodule in the lung. Emphysema in the lung.", ()),
    ],
)
def test_a_report_that_contradicts_itself_is_abnormal_and_told(report, organs):
    split = RuleBasedDecomposer(FOUR)({"report": report})
    assert split.contradictions == organs
    assert set(organs) <= set(split.conclusions)


def test_the_table_knows_the_36_anatomies_and_others():
    names = [name.strip() for name in THIRTY_SIX.replace("\n", " ").split(",")]
    assert len(names) == 36
    decomposer = RuleBasedDecomposer(names)
    assert decomposer.organs == tuple(names)
    split = decomposer({"report": "Bilateral adrenal glands were normal."})
    assert list(split.descriptions) == ["adrenal gland"]
    assert RuleBasedDecomposer(["adrenal_gland"]).organs == ("adrenal_gland",)


def test_workers_get_it_without_its_cache():
    decomposer = RuleBasedDecomposer(FOUR)
    sections = {"report": "Cardiomegaly."}
    assert pickle.loads(pickle.dumps(decomposer))(sections) == decomposer(sections)


def test_a_table_of_ones_own_is_checked(tmp_path):
    table = tmp_path / "terms.yaml"
    with pytest.raises(FileNotFoundError, match="no table of terms"):
        RuleBasedDecomposer(terms=str(table))
    table.write_text("anatomies: {lung: [lung]}")
    with pytest.raises(ValueError, match=r"has anatomies; expected the keys anatomies, groups"):
        RuleBasedDecomposer(terms=str(table))
    whole = TERMS.path.read_text(encoding="utf-8")
    table.write_text(whole.replace("  aorta: [atheroma*", "  aorte: [atheroma*"))
    with pytest.raises(ValueError, match="'aorte' is no anatomy; did you mean 'aorta'"):
        RuleBasedDecomposer(terms=str(table))
