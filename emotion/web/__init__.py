"""The web app; `factory` builds it, and importing this package alone loads no Flask."""
