"""Every number of the search for faces."""

from dataclasses import dataclass

# the passes that may follow when nothing was found, in the order in which they are tried
FALLBACKS = ("alt2", "rotated", "portrait", "profile")


@dataclass(frozen=True)
class OpinionLook:
    """How closely a second opinion looks at a box."""

    face_px: int  # size to which the box is scaled
    margin_share: float  # what is looked at around it, as a share of its side
    scale_step: float  # factor between the sizes of faces that are tried; above 1


# settles nine boxes of ten, at a third of the time of a close look
GLANCE = OpinionLook(face_px=32, margin_share=0.25, scale_step=1.1)
CLOSE_LOOK = OpinionLook(face_px=64, margin_share=0.35, scale_step=1.1)


@dataclass(frozen=True)
class DetectorSettings:
    """Every number of the search; the defaults measured best."""

    working_pixels: int = 1280 * 960  # largest area in square pixels of the copy that is searched
    working_short_side_px: int = 240  # a photo with a shorter short side is enlarged to it
    fallback_pixels: int = 480 * 360  # largest area of the copy that fallback passes search
    smallest_photo_side_px: int = 20  # a photo with a shorter side holds no face worth reading
    border_share: float = 0.2  # replicated border on each side, as a share of the copy's short side
    smallest_face_share: float = 0.04  # smallest box, as a share of the photo's short side
    smallest_face_px: int = 24  # smallest box in pixels of the copy; cascades know none smaller
    octave_step: float = 1.15  # factor from one box size to the next in the first pass; above 1
    octave_neighbors: int = 0  # overlapping hits that a proposal needs in the first pass
    coarsest_side_px: int = 160  # at most, short side of the smallest copy of the first pass
    octave_border_px: int = 12  # replicated border of the other copies, where faces are small
    places: bool = True  # the first pass looks only where a small network says that faces may be
    place_threshold: float = 0.0  # how much like a face a place must look to the network (a logit)
    place_face_px: int = 28  # size to which a place is scaled for the first cascade
    place_margin_share: float = 0.375  # what is looked at around a place, as a share of its side
    small_fry_px: int = 48  # smaller faces are not looked for beside one of more than twice this
    scale_step: float = 1.15  # factor from one box size to the next in the other passes; above 1
    minimum_neighbors: int = 2  # overlapping hits that a proposal needs in the other passes
    fallbacks: tuple[str, ...] = FALLBACKS  # which of `FALLBACKS` to try when nothing was found
    rotations_degrees: tuple[float, ...] = (-30.0, 30.0)  # counter-clockwise, in the rotated pass
    # other cascades judge each box; else its score is the weight of the cascade that proposed it
    second_opinion: bool = True
    # how they look at a box; the next only where the one before saw something, but too little
    opinion_looks: tuple[OpinionLook, ...] = (GLANCE, CLOSE_LOOK)
    opinion_doubt: float = 3.0  # how far below its threshold a score may lie for a closer look
    opinion_overlap: float = 0.45  # how much (intersection over union) its place must agree
    frontal_threshold: float = 5.2  # lowest score of a box of the first pass
    fallback_threshold: float = 5.5  # lowest score of a box of the alt2 and rotated passes
    profile_threshold: float = 3.0  # lowest score of a box of the profile pass
    # sides of the faces of the portrait pass, as shares of the short side; false ones are smaller
    portrait_shares: tuple[float, ...] = (1.2, 1.0, 0.84, 0.7, 0.58)
    portrait_border_share: float = 0.3  # as `border_share`, for that pass
    portrait_threshold: float = 0.5  # lowest score of the template in that pass
    # how often eyes must be seen there, of 4 times (each by each of `EYE_CASCADES`): round things
    # fool the template, but have no eyes
    portrait_eyes: int = 3
    # tilts of the head that are tried on each face; empty leaves all upright
    roll_degrees: tuple[float, ...] = (-30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0)
    least_roll_degrees: float = 8.0  # a head tilted less counts as upright
    template_threshold: float = -1.0  # a box that the template fits worse at every tilt is no face
    merge_overlap: float = 0.3  # boxes that overlap more (intersection over union) are one face
    merge_containment: float = 0.6  # a box with more of it inside a stronger one is dropped
