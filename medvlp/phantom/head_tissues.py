"""What tissues of a head look like: Hounsfield units, and signal in each kind of MR sequence."""

CONTRASTS = ("ct", "t1", "t1c", "t2", "flair", "b0", "dwi", "adc", "swi")
"""CT in HU; MR in arbitrary units: T1 without and with contrast medium, T2, FLAIR, diffusion with
b = 0 and b = 1000, apparent diffusion coefficient, susceptibility."""

_COLUMNS: dict[str, tuple[int, ...]] = {
    #                ct    t1   t1c    t2  flair   b0   dwi   adc   swi
    "air": (-1000, 0, 0, 0, 0, 0, 0, 0, 0),
    "fat": (-90, 820, 840, 560, 520, 110, 60, 150, 380),
    "muscle": (55, 380, 450, 240, 260, 180, 120, 260, 300),
    "bone": (950, 70, 80, 50, 45, 30, 25, 60, 40),
    "marrow": (420, 420, 440, 260, 250, 90, 60, 150, 180),
    "csf": (8, 170, 175, 1000, 130, 900, 90, 1000, 560),
    "grey": (38, 470, 485, 560, 520, 480, 320, 330, 520),
    "white": (28, 640, 655, 420, 430, 410, 290, 290, 470),
    "deep grey": (39, 520, 535, 500, 490, 430, 300, 310, 400),
    "dura": (56, 420, 900, 260, 300, 200, 140, 250, 260),
    "vitreous": (10, 160, 165, 980, 140, 880, 90, 980, 550),
    "blood": (70, 520, 540, 330, 520, 230, 260, 200, 60),
    "old blood": (18, 620, 640, 860, 820, 640, 300, 620, 300),
    "infarct": (20, 400, 420, 760, 790, 720, 1000, 90, 480),
    "enhancing tumour": (42, 430, 1000, 640, 660, 540, 420, 420, 400),
    "necrosis": (14, 250, 260, 900, 600, 800, 170, 850, 420),
    "tumour": (32, 400, 470, 740, 740, 640, 380, 520, 450),
    "meningioma": (52, 470, 980, 560, 600, 520, 470, 380, 420),
    "edema": (20, 430, 440, 820, 860, 700, 300, 700, 500),
}


def intensity(tissue: str, contrast: str) -> float:
    """Return the typical value of a tissue.

    >>> intensity("csf", "ct"), intensity("infarct", "dwi") > intensity("white", "dwi")
    (8.0, True)
    """
    return float(_COLUMNS[tissue][CONTRASTS.index(contrast)])
