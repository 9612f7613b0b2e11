"""How far a share that was counted on a few may be from the true one."""

Z_95 = 1.959964


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of the share `right / count` (Wilson 1927); count is above 0.

    By hand, since loading scipy.stats for it takes half a second.
    """
    centre = (right + Z_95**2 / 2) / (count + Z_95**2)
    spread = right * (count - right) / count + Z_95**2 / 4
    half = Z_95 * spread**0.5 / (count + Z_95**2)
    return max(0.0, centre - half), min(1.0, centre + half)
