"""The labels of Rad-ChestCT: which "abnormality*location" columns a phantom's finding sets.

The 84 abnormalities are the published ones. Of the 52 locations only those are here that the
phantom's findings need and whose names could be checked.
"""

from medvlp.phantom.finding import Finding

_ABNORMALITIES = """
    air_trapping airspace_disease aneurysm arthritis aspiration atelectasis atherosclerosis
    bandlike_or_linear breast_implant breast_surgery bronchial_wall_thickening bronchiectasis
    bronchiolectasis bronchiolitis bronchitis cabg calcification cancer cardiomegaly
    catheter_or_port cavitation chest_tube clip congestion consolidation coronary_artery_disease
    cyst debris deformity density dilation_or_ectasia distention emphysema fibrosis fracture
    gi_tube granuloma groundglass hardware heart_failure heart_valve_replacement hemothorax hernia
    honeycombing infection infiltrate inflammation interstitial_lung_disease lesion lucency
    lung_resection lymphadenopathy mass mucous_plugging nodule nodulegr1cm opacity other_path
    pacemaker_or_defib pericardial_effusion pericardial_thickening plaque pleural_effusion
    pleural_thickening pneumonia pneumonitis pneumothorax postsurgical pulmonary_edema reticulation
    scarring scattered_calc scattered_nod secretion septal_thickening soft_tissue staple stent
    sternotomy suture tracheal_tube transplant tree_in_bud tuberculosis
"""
_LOCATIONS = """
    left_upper left_mid left_lower left_lung right_upper right_mid right_lower right_lung lung
    airways heart aorta mediastinum hilum other_location
"""
COLUMNS = tuple(
    f"{name}*{place}" for name in _ABNORMALITIES.split() for place in _LOCATIONS.split()
)

_LUNG_FINDINGS = {
    "Emphysema": "emphysema",
    "Atelectasis": "atelectasis",
    "Lung nodule": "nodule",
    "Lung opacity": "opacity",
    "Pulmonary fibrotic sequela": "fibrosis",
    "Pleural effusion": "pleural_effusion",
    "Peribronchial thickening": "bronchial_wall_thickening",
    "Consolidation": "consolidation",
    "Bronchiectasis": "bronchiectasis",
    "Interlobular septal thickening": "septal_thickening",
    "Mosaic attenuation pattern": "air_trapping",
}
_OTHER_FINDINGS = {
    "Cardiomegaly": "cardiomegaly*heart",
    "Pericardial effusion": "pericardial_effusion*heart",
    "Coronary artery wall calcification": "calcification*heart",
    "Arterial wall calcification": "calcification*aorta",
    "Hiatal hernia": "hernia*other_location",
    "Lymphadenopathy": "lymphadenopathy*mediastinum",
}
_MATERIAL = {
    "port catheter": "catheter_or_port*mediastinum",
    "pacemaker": "pacemaker_or_defib*heart",
    "sternal wire": "sternotomy*mediastinum",
}
_PARTS = {"upper lobe": "upper", "middle lobe": "mid", "lower lobe": "lower"}


def positive_columns(finding: Finding) -> list[str]:
    """List the columns that are 1; what is in a lobe is in its lung and in the lungs too.

    >>> positive_columns(Finding("Lung nodule", side="left", place="left upper lobe"))
    ['nodule*left_upper', 'nodule*left_lung', 'nodule*lung']
    """
    if finding.name == "Medical material":
        return [_MATERIAL[finding.place]]
    if finding.name in _OTHER_FINDINGS:
        return [_OTHER_FINDINGS[finding.name]]
    name = _LUNG_FINDINGS[finding.name]
    sides = ("left", "right") if finding.side == "bilateral" else (finding.side,)
    places = [
        f"{finding.side}_{part}" for lobe, part in _PARTS.items() if finding.place.endswith(lobe)
    ]
    return [f"{name}*{place}" for place in (*places, *(f"{side}_lung" for side in sides), "lung")]
