"""Every number of the search for faces."""

import math
from dataclasses import dataclass

FALLBACKS = ("alt2", "rotated", "portrait", "profile")
"""The passes that may follow when nothing was found, in the order in which they are tried."""


@dataclass(frozen=True)
class OpinionLook:
    """How closely a second opinion looks at a box.

    Attributes:
        face_px: size to which the box is scaled.
        margin_share: what is looked at around it, as a share of its side.
        scale_step: factor between the sizes of faces that are tried; above 1.
    """

    face_px: int
    margin_share: float
    scale_step: float

    @property
    def crop_px(self) -> int:
        """Side of what is looked at."""
        return round(self.face_px * (1 + 2 * self.margin_share))


GLANCE = OpinionLook(face_px=32, margin_share=0.25, scale_step=1.1)
"""Settles nine boxes of ten, at a third of the time of a close look."""


CLOSE_LOOK = OpinionLook(face_px=64, margin_share=0.35, scale_step=1.1)


@dataclass(frozen=True)
class DetectorSettings:
    """Every number of the search; the defaults measured best.

    Attributes:
        working_pixels: largest area in square pixels of the copy that is searched.
        working_short_side_px: photos with a shorter short side than this are enlarged to it.
        fallback_pixels: largest area in square pixels of the copy that fallback passes search.
        smallest_photo_side_px: a photo with a shorter side holds no face worth reading.
        border_share: replicated border on each side, as a share of the copy's short side.
        smallest_face_share: smallest box, as a share of the photo's short side.
        smallest_face_px: smallest box in pixels of the copy; the cascades know nothing smaller.
        octave_step: factor from one box size to the next in the first pass; above 1.
        octave_neighbors: overlapping hits that a proposal needs in the first pass.
        coarsest_side_px: short side of the smallest copy that the first pass searches, at most.
        octave_border_px: replicated border of the other copies, where faces are small.
        places: whether the first pass looks only where a small network says that faces may be.
        place_threshold: how much like a face a place must look to the network (a logit).
        fallback_place_threshold: the same, for the alt2 and rotated passes.
        place_face_px: size to which a place is scaled for the first cascade.
        place_margin_share: what is looked at around a place, as a share of its side.
        small_fry_px: where a photo has a face of more than twice this, faces with fewer pixels than
            this are not looked for.
        scale_step: factor from one box size to the next in the other passes; above 1.
        minimum_neighbors: overlapping hits that a proposal needs in the other passes.
        fallbacks: which of `FALLBACKS` to try when nothing was found.
        rotations_degrees: counter-clockwise turns of the photo that the rotated pass tries.
        second_opinion: whether other cascades judge each box; without it the score is the weight
            of the cascade that proposed the box and the three thresholds below apply to that.
        opinion_looks: how the second opinion looks at a box; the next only where the one before
            saw something, but too little.
        opinion_doubt: how far below its threshold a score may lie for a closer look.
        opinion_overlap: how much (intersection over union) an opinion must agree on the place.
        frontal_threshold: lowest score of a box of the first pass.
        fallback_threshold: lowest score of a box of the alt2 and rotated passes.
        profile_threshold: lowest score of a box of the profile pass.
        portrait_shares: sides of the face that the portrait pass looks for, as shares of the short
            side; false faces are smaller, so only large ones are believed.
        portrait_border_share: as `border_share`, for that pass.
        portrait_threshold: lowest score of the template in that pass.
        portrait_eyes: how often the eyes must be seen in that pass, of 4 times (each eye by each of
            `EYE_CASCADES`); round things fool the template, but have no eyes.
        roll_degrees: tilts of the head that are tried on each face; empty leaves all upright.
        least_roll_degrees: a head tilted less counts as upright.
        template_threshold: boxes that the template fits worse than this at every tilt are no
            faces.
        merge_overlap: boxes that overlap more (intersection over union) are one face.
        merge_containment: boxes of which this share lies inside a stronger one are dropped.
    """

    working_pixels: int = 1280 * 960
    working_short_side_px: int = 240
    fallback_pixels: int = 480 * 360
    smallest_photo_side_px: int = 20
    border_share: float = 0.2
    smallest_face_share: float = 0.04
    smallest_face_px: int = 24
    octave_step: float = 1.15
    octave_neighbors: int = 0
    coarsest_side_px: int = 160
    octave_border_px: int = 12
    places: bool = True
    place_threshold: float = 0.0
    fallback_place_threshold: float = -math.inf
    place_face_px: int = 28
    place_margin_share: float = 0.375
    small_fry_px: int = 48
    scale_step: float = 1.15
    minimum_neighbors: int = 2
    fallbacks: tuple[str, ...] = FALLBACKS
    rotations_degrees: tuple[float, ...] = (-30.0, 30.0)
    second_opinion: bool = True
    opinion_looks: tuple[OpinionLook, ...] = (GLANCE, CLOSE_LOOK)
    opinion_doubt: float = 3.0
    opinion_overlap: float = 0.45
    frontal_threshold: float = 5.2
    fallback_threshold: float = 5.5
    profile_threshold: float = 3.0
    portrait_shares: tuple[float, ...] = (1.2, 1.0, 0.84, 0.7, 0.58)
    portrait_border_share: float = 0.3
    portrait_threshold: float = 0.5
    portrait_eyes: int = 3
    roll_degrees: tuple[float, ...] = (-30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0)
    least_roll_degrees: float = 8.0
    template_threshold: float = -1.0
    merge_overlap: float = 0.3
    merge_containment: float = 0.6
