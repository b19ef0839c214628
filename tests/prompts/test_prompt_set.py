import pytest
import yaml

from medvlp.prompts.prompt_set import PromptSet

PUBLISHED = ["Emphysema", "Atelectasis", "Lung nodule", "Lung opacity"]


def tree(**changes):
    base = {
        "name": "two",
        "templates": {"volume": ["The volume shows: {c}."], "organ": ["The {organ} shows: {c}."]},
        "classes": [
            {"name": "Emphysema", "negative": "Not emphysema", "positive": "Emphysema"},
            {"name": "Nodule", "negative": "Not nodule", "positive": "Nodule", "organ": "lung"},
        ],
    }
    return base | changes


def test_ct_rate_has_the_published_classes_and_strings():
    prompts = PromptSet.load("ct_rate")
    assert len(prompts.classes) == 16
    assert prompts.class_names[:4] == PUBLISHED
    volume = {name: prompts.texts(name, "volume") for name in prompts.class_names}
    assert volume["Atelectasis"] == (
        ["The volume shows: Not atelectatic."],
        ["The volume shows: Atelectasis."],
    )
    assert volume["Lung nodule"][0] == ["The volume shows: Not lung nodule."]
    assert prompts.texts("Lung opacity", "organ")[0] == ["The lung shows: Not opacity."]
    assert prompts.texts("Hiatal hernia", "organ")[1] == ["The esophagus shows: Hiatal hernia."]
    assert prompts.texts("Arterial wall calcification", "organ")[1] == [
        "The aorta shows: Arterial wall calcification."
    ]
    assert prompts.texts("Coronary artery wall calcification", "organ")[1] == [
        "The heart shows: Coronary artery wall calcification."
    ]
    for name, (negative, positive) in volume.items():
        plain = {"Atelectasis": "atelectatic"}.get(name, name[0].lower() + name[1:])
        assert negative == [f"The volume shows: Not {plain}."]
        assert positive == [f"The volume shows: {name}."]


def test_phantom_set_extends_the_published_one_and_has_tiers():
    phantom, published = PromptSet.load("phantom_ct_rate"), PromptSet.load("ct_rate")
    groups = phantom.macro_groups()
    assert len(groups["all"]) == 18
    assert sorted(groups["large"] + groups["focal"]) == sorted(groups["all"])
    assert groups["published_16"] == published.class_names
    for template in ("volume", "organ"):
        for name in published.class_names:
            assert phantom.texts(name, template) == published.texts(name, template)


def test_later_protocols_have_the_published_sentences():
    head = PromptSet.load("rsna").texts("Any", "study")
    assert head == ([], ["This CT study shows: intracranial hemorrhage."])
    for name, classes in (("cq500", 11), ("mr_rate", 37)):
        prompts = PromptSet.load(name)
        assert len(prompts.classes) == classes
        assert len(set(prompts.templates["ensemble"])) == 18
    bleeding = PromptSet.load("cq500").texts("EDH", "ensemble")[1]
    assert bleeding[0] == "This study shows: extradural hemorrhage."
    assert bleeding[4] == "This study shows: new extradural hemorrhage."
    chest = PromptSet.load("ct_rate_positive")
    published = chest.texts("Emphysema", "ensemble_published")[1]
    assert published[3] == "This study shows: onsistent with Emphysema."  # sic
    corrected = chest.texts("Emphysema", "ensemble")[1]
    assert [a for a, b in zip(corrected, published, strict=True) if a != b] == [
        "This study shows: consistent with Emphysema."
    ]
    assert chest.class_names == PromptSet.load("ct_rate").class_names
    rad = PromptSet.load("rad_chestct_positive")
    assert rad.class_names == PromptSet.load("rad_chestct").scored_names


def test_label_columns_are_found_by_name():
    prompts = PromptSet.from_dict(
        tree(classes=[tree()["classes"][0], tree()["classes"][1] | {"any_of": ["a", "b"]}])
    )
    assert prompts.label_columns(["b", "Emphysema", "a"]) == [[1], [2, 0]]
    with pytest.raises(ValueError, match="scores a, b, the data set has no such label among Emph"):
        prompts.label_columns(["Emphysema"])


def test_hash_follows_content_not_layout(tmp_path):
    first = PromptSet.from_dict(tree())
    path = tmp_path / "mine.yaml"
    path.write_text("# a comment\n" + yaml.safe_dump(tree(name="other")))
    assert PromptSet.load(str(path)).hash == first.hash
    changed = tree(templates={"volume": ["This shows: {c}."]})
    assert PromptSet.from_dict(changed).hash != first.hash


def test_ensemble_gives_one_sentence_per_template():
    prompts = PromptSet.from_dict(tree(templates={"many": ["there is {c}.", "{c} is present."]}))
    negative, positive = prompts.texts("Nodule", "many")
    assert negative == ["there is Not nodule.", "Not nodule is present."]
    assert positive == ["there is Nodule.", "Nodule is present."]


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (lambda: PromptSet.load("ct_rat"), "did you mean ct_rate"),
        (lambda: PromptSet.load("ct_rate").texts("emphisema", "volume"), "mean Emphysema"),
        (lambda: PromptSet.load("ct_rate").texts("Emphysema", "volumes"), "did you mean volume"),
        (
            lambda: PromptSet.from_dict(
                tree(classes=[*tree()["classes"], {"name": "Cyst", "positive": "Cyst"}])
            ),
            "class Cyst: lacks negative, which other classes have",
        ),
        (
            lambda: PromptSet.from_dict(tree(classes=[{"name": "Nodule", "negative": "Not"}])),
            "class Nodule: lacks positive",
        ),
        (
            lambda: PromptSet.load("pub_brain_5").pairs("study"),
            "no negative prompt for Normal, Stroke, Glioma, Meningioma, Metastasis",
        ),
        (
            lambda: PromptSet.from_dict(
                tree(classes=[{"name": "Nodule", "positive": "", "negative": "Not"}])
            ),
            "class Nodule: the positive prompt is empty",
        ),
        (lambda: PromptSet.from_dict(tree(group={})), "did you mean groups"),
        (lambda: PromptSet.from_dict(tree(groups={"a": ["Emphysem"]})), "did you mean Emphysema"),
        (lambda: PromptSet.from_dict(tree(classes=tree()["classes"] * 2)), "twice: Emphysema"),
    ],
)
def test_errors_name_what_is_wrong_and_what_is_near(load, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load()


def test_tiers_are_those_of_the_phantoms():
    from medvlp.phantom import findings

    groups = PromptSet.load("phantom_ct_rate").macro_groups()
    assert tuple(groups["large"]) == findings.LARGE_FINDINGS
    assert tuple(groups["all"]) == findings.LABELS


def test_fvlm_presets_differ_in_the_published_prompts_only():
    sets = [PromptSet.load(name) for name in ("fvlm", "fvlm_before_2025_04", "visd_boost")]
    assert all(prompts.class_names == PromptSet.load("ct_rate").class_names for prompts in sets)
    now, before, boost = (dict(zip(p.class_names, p.pairs("organ"), strict=True)) for p in sets)
    assert now["Atelectasis"] == (["Not Atelectatic."], ["Atelectatic."])
    assert now["Lung nodule"] == (["Not Nodule."], ["Nodule."])
    assert now["Pulmonary fibrotic sequela"] == (
        ["Not Pulmonary fibrotic."],
        ["Pulmonary fibrotic."],
    )
    assert now["Hiatal hernia"] == (["Not Hiatal hernia."], ["Hiatal hernia."])
    changed = {name: pair for name, pair in before.items() if pair != now[name]}
    name = "Pulmonary fibrotic sequela"
    assert changed == {name: ([f"Not {name}."], [f"{name}."])}
    assert {name: pair[1] for name, pair in boost.items() if pair != now[name]} == {
        "Lung nodule": ["Lung nodule."],
        "Lung opacity": ["Lung opacity."],
    }
