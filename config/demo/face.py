"""Renders a head: a shaded height field with eyes, brows, mouth and hair.

Lengths are in face units: half the face's width is about 0.76. x points right, y down; the origin
is between and a little below the eyes.
"""

from dataclasses import dataclass, fields

import numpy as np


@dataclass
class Expression:
    """Displacement of the parts of a face, about -1..1; all zero is a face at rest."""

    brow_inner: float = 0.0  # up is positive
    brow_outer: float = 0.0
    brow_together: float = 0.0
    eye_open: float = 0.0  # wider is positive, -1 is closed
    squint: float = 0.0  # lower lids and cheeks up
    corner: float = 0.0  # mouth corners up
    width: float = 0.0  # of the mouth
    jaw: float = 0.0  # mouth open
    press: float = 0.0  # lips thin
    teeth: float = 0.0
    sneer: float = 0.0  # nose wings up

    def __add__(self, other):
        return Expression(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, weight):
        return Expression(*(getattr(self, f.name) * weight for f in fields(self)))


@dataclass
class Pose:
    """Pose of the head: centre in pixels, pixels per face unit, roll in radians.

    Yaw and pitch shift near parts by face units for each unit of depth. Gaze is about -1..1.
    """

    x: float
    y: float
    scale: float
    roll: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


def step(edge, width, value):
    """Smooth step: 0 below `edge`, 1 above, over the width `width` around `edge`."""
    t = np.clip((value - edge) / width + 0.5, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(x, y, cx, cy, rx, ry):
    return np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)


def over(colour, paint, alpha):
    """Blends `paint`, a colour or an image, over `colour` by `alpha` (0..1 for each pixel)."""
    return colour + (np.asarray(paint, np.float32) - colour) * alpha[..., None]


SKIN = np.array([0.86, 0.62, 0.50], np.float32)
LIP = np.array([0.68, 0.32, 0.31], np.float32)
HAIR = np.array([0.16, 0.10, 0.07], np.float32)
LIGHT = np.array([-0.42, -0.50, 0.76])
LIGHT /= np.linalg.norm(LIGHT)


def inside_head(x, y):
    """1 in the middle of the head, 0 on the outline of skull and jaw, negative outside."""
    below = np.clip(y + 0.05, 0.0, None) / 1.10
    above = np.clip(-(y + 0.05), 0.0, None) / 1.12
    return 1.0 - np.abs(x / 0.76) ** 2.2 - below**2.7 - above**2.1


def coordinates(height, width, pose):
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = (columns - pose.x) / pose.scale, (rows - pose.y) / pose.scale
    cos, sin = np.cos(pose.roll), np.sin(pose.roll)
    x, y = cos * u + sin * v, -sin * u + cos * v
    # Parallax: near parts shift more when the head turns.
    near = 0.55 * np.sqrt(np.clip(1.0 - (x / 0.95) ** 2 - (y / 1.3) ** 2, 0.0, 1.0))
    return x - pose.yaw * near, y - pose.pitch * near


def relief(x, y, e, mouth_y):
    """Height of the face above the image plane at (x, y), in face units."""
    z = 0.72 * np.sqrt(np.clip(inside_head(x, y) + 0.02, 0.0, None))
    side = np.abs(x)
    z += 0.045 * bump(side, y, 0.33, -0.33 - 0.05 * e.brow_outer, 0.26, 0.09)  # brow bones
    z -= 0.100 * bump(side, y, 0.31, -0.14, 0.20, 0.13)  # eye sockets
    z += 0.040 * bump(side, y, 0.32, -0.11, 0.15, 0.09)  # eyeballs
    z += (0.055 + 0.05 * e.squint) * bump(
        side, y, 0.45, 0.22 - 0.06 * e.squint, 0.20, 0.17
    )  # cheeks
    # The nose: a ridge that widens and rises to its tip, wings beside it.
    ridge = 0.055 + 0.05 * np.clip((y + 0.2) / 0.5, 0.0, 1.0)
    along = step(-0.18, 0.5, y) * step(-0.33, 0.10, -y)
    z += (
        0.20
        * along
        * np.exp(-((x / ridge) ** 2))
        * (0.45 + 0.55 * np.clip((y + 0.25) / 0.5, 0.0, 1.0))
    )
    z += 0.090 * bump(x, y, 0.0, 0.25, 0.10, 0.08)
    z += 0.060 * bump(side, y, 0.125, 0.29 - 0.03 * e.sneer, 0.055, 0.055)
    # Folds from the nose to the corners of the mouth.
    fold_x = 0.17 + 0.20 * np.clip((y - 0.27) / 0.36, 0.0, 1.4) + 0.05 * e.width
    z -= (
        (0.012 + 0.030 * max(e.corner, 0.0) + 0.02 * e.sneer)
        * np.exp(-(((side - fold_x) / 0.035) ** 2))
        * step(0.26, 0.12, y)
        * step(-0.66, 0.15, -y)
    )
    z -= 0.018 * bump(x, y, 0.0, 0.43, 0.035, 0.06)  # philtrum
    z += 0.055 * bump(x, y, 0.0, mouth_y, 0.30, 0.16)  # bulge over the teeth
    z -= 0.030 * bump(x, y, 0.0, mouth_y + 0.20 + 0.16 * e.jaw, 0.17, 0.05)
    z += 0.060 * bump(x, y, 0.0, 0.90 + 0.05 * e.jaw, 0.20, 0.12)  # chin
    # Frown lines.
    frown = max(e.brow_together, 0.0)
    z -= 0.022 * frown * bump(side, y, 0.055, -0.33, 0.016, 0.09)
    z -= (
        0.008
        * max(e.brow_inner, 0.0)
        * np.sin(np.clip((y + 0.72) * 45.0, 0, 4 * np.pi)) ** 2
        * bump(x, y, 0.0, -0.58, 0.45, 0.12)
    )
    return z


def eye(colour, x, y, e, pose, side, pixel):
    """Draws one eye, its lids and its brow; `side` is -1 for the left of the image, else 1."""
    cx, cy = 0.315 * side, -0.115
    u = (x - cx) / 0.165
    out = u * side  # 1 at the outer corner
    arch = np.clip(1.0 - u * u, 0.0, 1.0)
    openness = max(0.0, 1.0 + e.eye_open)
    sad = 0.25 * max(e.brow_inner - e.brow_outer, 0.0)
    upper = cy - 0.078 * openness * arch**0.75 + 0.012 * out * (1 + sad) - 0.014
    lower = (
        cy
        + (0.050 + 0.012 * e.eye_open - 0.028 * e.squint) * arch * min(openness, 1.0)
        + 0.006 * out
        - 0.004
    )
    lower = np.maximum(lower, upper)
    ball = step(0.0, 1.6 * pixel, y - upper) * step(0.0, 1.6 * pixel, lower - y) * (arch > 0)

    # The hollow around it, and the fold of the upper lid.
    colour = colour * (1.0 - 0.22 * bump(x, y, cx * 0.95, cy - 0.03, 0.20, 0.11))[..., None]
    fold = upper - 0.045 - 0.012 * arch
    colour = colour * (1.0 - 0.30 * np.exp(-(((y - fold) / 0.012) ** 2)) * arch**0.5)[..., None]
    colour = (
        colour * (1.0 - 0.16 * np.exp(-(((y - lower - 0.035) / 0.018) ** 2)) * arch**0.5)[..., None]
    )

    shade = 0.62 + 0.38 * np.clip((y - upper) / 0.06, 0.0, 1.0)
    white = (
        np.array([0.90, 0.88, 0.87], np.float32)
        * (shade * (1.0 - 0.28 * np.abs(u) ** 3))[..., None]
    )
    ix, iy = cx + 0.03 * pose.gaze_x, cy - 0.012 + 0.03 * pose.gaze_y
    r = np.hypot(x - ix, y - iy)
    iris = (
        np.array([0.28, 0.17, 0.10], np.float32)
        * (0.7 + 0.9 * np.clip((y - iy) / 0.08 + 0.35, 0.0, 1.0))[..., None]
    )
    iris = iris * (1.0 - 0.6 * step(0.064, 0.02, r))[..., None]
    white = over(white, iris, step(-0.075, 1.6 * pixel, -r))
    white = over(white, [0.02, 0.02, 0.02], step(-0.034, 1.6 * pixel, -r))
    white = over(
        white,
        [1.0, 1.0, 1.0],
        0.95 * step(-0.016, 1.4 * pixel, -np.hypot(x - ix + 0.026, y - iy + 0.026)),
    )
    colour = over(colour, white, ball)
    # Lashes: a dark line along the upper lid, thicker outside; a faint one below.
    thick = 0.014 + 0.008 * np.clip(out, -0.5, 1.0)
    colour = over(
        colour,
        [0.08, 0.05, 0.04],
        0.92 * np.exp(-(((y - upper + 0.004) / thick) ** 2)) * step(-1.04, 0.08, -np.abs(u)),
    )
    colour = over(
        colour,
        [0.30, 0.18, 0.15],
        0.45 * np.exp(-(((y - lower) / 0.008) ** 2)) * step(-1.0, 0.1, -np.abs(u)),
    )
    colour = over(
        colour, [0.75, 0.45, 0.42], 0.6 * bump(x, y, cx - 0.155 * side, cy + 0.008, 0.015, 0.012)
    )

    # The brow.
    v = (x - cx - 0.012 * side + 0.03 * side * e.brow_together) / 0.215
    out = v * side
    inner, outer = np.clip(0.5 - 0.5 * out, 0.0, 1.0), np.clip(0.5 + 0.5 * out, 0.0, 1.0)
    line = (
        -0.315
        - 0.045 * (1.0 - out * out)
        + 0.014 * out
        - 0.110 * e.brow_inner * inner**1.5
        - 0.10 * e.brow_outer * outer
    )
    line = line + 0.055 * e.brow_together * inner
    thick = 0.034 * (1.0 - 0.55 * np.clip(out, 0.0, 1.0) ** 1.5)
    hairs = 0.92 + 0.08 * np.sin(x * 160.0 * side + y * 110.0)
    brow = np.exp(-(np.abs((y - line) / thick) ** 3)) * step(-1.0, 0.22, -np.abs(v)) * hairs
    return over(colour, HAIR * 1.1, 0.93 * brow)


def mouth(colour, x, y, e, mouth_y, light, pixel):
    half = 0.262 * (1.0 + 0.28 * e.width - 0.16 * max(e.jaw - 0.4, 0.0))
    u = x / half
    arch = np.clip(1.0 - u * u, 0.0, 1.0)
    # The corners go up (or down), the middle stays.
    bend = -0.105 * e.corner * np.abs(u) ** 2.0 + 0.012 * e.corner
    opening = 0.27 * max(e.jaw, 0.0)
    thin = max(0.25, 1.0 - 0.65 * e.press)
    upper_in = mouth_y + bend - 0.18 * opening * arch**0.6
    lower_in = mouth_y + bend + 0.82 * opening * arch**0.6
    cupid = 0.010 * np.exp(-((u / 0.12) ** 2))
    upper_out = upper_in - thin * (0.062 * arch**0.8 - cupid)
    lower_out = lower_in + thin * 0.078 * arch**0.75

    lips = (
        step(0.0, 2.5 * pixel, y - upper_out) * step(0.0, 2.5 * pixel, lower_out - y) * (arch > 0)
    )
    upper_lip = step(0.0, 3 * pixel, upper_in - y + 0.0)
    paint = LIP * (light * (1.0 - 0.22 * upper_lip))[..., None]
    gloss = 0.20 * np.exp(-(((y - lower_in - 0.030) / 0.016) ** 2) - (x / 0.10) ** 2)
    colour = over(colour, paint + gloss[..., None], 0.92 * lips)
    # Inside of the open mouth: dark, with the tongue and the upper teeth.
    hole = (
        step(0.0, 1.8 * pixel, y - upper_in)
        * step(0.0, 1.8 * pixel, lower_in - y)
        * (arch > 0)
        * min(1.0, opening / 0.012)
    )
    within = np.broadcast_to(np.array([0.16, 0.05, 0.05], np.float32), colour.shape)
    within = over(
        within, [0.45, 0.18, 0.18], 0.7 * bump(x, y, 0.0, mouth_y + 0.95 * opening, 0.13, 0.06)
    )
    teeth = (
        e.teeth
        * step(0.0, 2 * pixel, upper_in + 0.062 - 0.02 * u * u - y)
        * (0.9 - 0.35 * np.abs(u))
    )
    gaps = 1.0 - 0.12 * (np.abs(np.sin(x * np.pi / 0.052)) < 0.12)
    within = over(
        within, np.array([0.93, 0.90, 0.84], np.float32) * gaps[..., None], np.clip(teeth, 0.0, 1.0)
    )
    colour = over(colour, within, hole)
    # The line between closed lips, deeper in the corners.
    closed = (
        np.exp(-(((y - upper_in) / 0.009) ** 2))
        * step(-1.03, 0.08, -np.abs(u))
        * (1.0 - 0.8 * min(1.0, opening / 0.05))
    )
    colour = over(colour, [0.30, 0.11, 0.10], 0.85 * closed)
    corner_y = mouth_y - 0.093 * e.corner
    return (
        colour * (1.0 - 0.35 * bump(np.abs(x), y, half * 1.02, corner_y, 0.030, 0.028))[..., None]
    )


class Stage:
    """Background, body and noise, which do not depend on the expression."""

    def __init__(self, height, width, seed=7):
        self.shape = (height, width)
        random = np.random.default_rng(seed)
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        glow = np.exp(
            -(((columns - 0.30 * width) / (0.55 * width)) ** 2)
            - ((rows - 0.30 * height) / (0.7 * height)) ** 2
        )
        back = np.array([0.20, 0.25, 0.30], np.float32) + glow[..., None] * np.array(
            [0.24, 0.25, 0.24], np.float32
        )
        # A window's edge and a shelf, out of focus.
        back += (
            0.07
            * (step(0.80 * width, 40.0, columns) * step(-0.55 * height, 50.0, -rows))[..., None]
        )
        back -= 0.05 * np.exp(-(((rows - 0.72 * height) / 14.0) ** 2))[..., None]
        self.background = back
        # Pores: smoothed noise that moves with the face.
        noise = random.standard_normal((256, 256)).astype(np.float32)
        self.pores = (
            noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, (1, 1), (0, 1))
        ) / 2.0
        self.random = random

    def body(self, colour, pose):
        """Draws neck and shoulders, which follow the head a little."""
        height, width = self.shape
        rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
        x = (columns - (0.6 * pose.x + 0.4 * width / 2)) / pose.scale
        y = (rows - pose.y) / pose.scale
        pixel = 1.0 / pose.scale
        shoulders = 1.22 + 0.34 * np.abs(x) ** 1.6 + 0.30 * step(1.15, 0.7, np.abs(x))
        cloth = (
            np.array([0.17, 0.24, 0.36], np.float32)
            * (
                0.75
                + 0.35 * np.exp(-(((x + 0.5) / 0.8) ** 2))
                - 0.10 * np.sin(x * 9.0 + y * 3.0) ** 8
            )[..., None]
        )
        throat = 0.36 + 0.10 * np.clip(y - 0.95, 0.0, 1.0) ** 2 * 4.0
        neck = step(0.0, 3 * pixel, throat - np.abs(x)) * step(0.6, 0.2, y)
        shade = (0.42 + 0.26 * step(1.08, 0.35, y)) * (
            1.0 - 0.45 * np.clip((x + 0.18) / 0.45, 0.0, 1.0) ** 1.2
        )
        colour = over(
            colour, SKIN * np.array([1.0, 0.93, 0.90], np.float32) * shade[..., None], neck
        )
        collar = step(0.0, 3 * pixel, y - shoulders - 0.26 * np.exp(-((x / 0.30) ** 2)))
        return over(colour, cloth, collar)

    def render(self, e, pose):
        """Renders one frame: an RGB image, uint8."""
        height, width = self.shape
        colour = self.back_hair(self.background.copy(), pose)
        colour = self.body(colour, pose)
        # Only a box around the head is rendered.
        top, bottom = max(0, int(pose.y - 1.5 * pose.scale)), min(
            height, int(pose.y + 1.3 * pose.scale)
        )
        left, right = max(0, int(pose.x - 1.1 * pose.scale)), min(
            width, int(pose.x + 1.1 * pose.scale)
        )
        local = Pose(**{**pose.__dict__, "x": pose.x - left, "y": pose.y - top})
        colour[top:bottom, left:right] = self.head(colour[top:bottom, left:right], e, local)
        colour = (
            colour + self.random.normal(0.0, 0.006, colour.shape[:2]).astype(np.float32)[..., None]
        )
        return (np.clip(colour, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

    def back_hair(self, colour, pose):
        x, y = coordinates(*self.shape, Pose(**{**pose.__dict__, "yaw": 0.0, "pitch": 0.0}))
        pixel = 1.0 / pose.scale
        outline = (
            1.0
            - np.abs(x / 0.88) ** 2.4
            - np.abs((y + 0.28) / np.where(y < -0.28, 1.00, 0.95)) ** 2.4
        )
        strands = 0.75 + 0.35 * np.sin(x * 60.0 + 6.0 * np.sin(y * 4.0)) ** 2 * np.exp(
            -(((x + 0.5) / 0.5) ** 2)
        )
        return over(colour, HAIR * strands[..., None], step(0.0, 8 * pixel, outline))

    def head(self, colour, e, pose):
        height, width = colour.shape[:2]
        x, y = coordinates(height, width, pose)
        pixel = 1.0 / pose.scale
        # An open jaw moves the lower face down.
        y = y - 0.10 * max(e.jaw, 0.0) * step(0.75, 0.5, y)
        mouth_y = 0.60
        z = relief(x, y, e, mouth_y)
        dy, dx = np.gradient(z, pixel)
        norm = 1.0 / np.sqrt(dx * dx + dy * dy + 1.0)
        diffuse = np.clip((-dx * LIGHT[0] - dy * LIGHT[1] + LIGHT[2]) * norm, -0.3, 1.0)
        light = 0.36 + 0.72 * np.clip((diffuse + 0.22) / 1.22, 0.0, 1.0)
        half = LIGHT + np.array([0.0, 0.0, 1.0])
        half /= np.linalg.norm(half)
        shine = np.clip((-dx * half[0] - dy * half[1] + half[2]) * norm, 0.0, 1.0) ** 28

        # Skin: redder cheeks, nose and chin; pores.
        rosy = (
            0.8 * bump(np.abs(x), y, 0.45, 0.20, 0.20, 0.18)
            + 0.5 * bump(x, y, 0, 0.27, 0.14, 0.12)
            + 0.3 * bump(x, y, 0, 0.9, 0.2, 0.12)
        )
        skin = SKIN + rosy[..., None] * np.array([0.03, -0.05, -0.04], np.float32)
        pores = self.pores[((y + 3) * 90).astype(int) % 256, ((x + 3) * 90).astype(int) % 256]
        skin = skin * (1.0 + 0.012 * pores)[..., None]
        face = (
            skin * light[..., None] * np.array([1.02, 0.99, 0.96], np.float32)
            + 0.10 * shine[..., None]
        )
        # Shadows: beside and under the nose, under the lip, at the temples.
        dark = 0.34 * bump(np.abs(x), y, 0.075, 0.345, 0.042, 0.020) * 2.0 + 0.25 * bump(
            x, y, 0.0, 0.375, 0.13, 0.03
        )
        dark += 0.16 * bump(np.abs(x), y, 0.185, 0.29, 0.03, 0.07) + 0.10 * bump(
            np.abs(x), y, 0.12, -0.13, 0.05, 0.12
        )
        dark += 0.16 * bump(x, y, 0.0, mouth_y + 0.135 + 0.22 * max(e.jaw, 0.0), 0.16, 0.03)
        face = face * (1.0 - np.clip(dark, 0.0, 0.75))[..., None]
        for side in (-1, 1):
            face = eye(face, x, y, e, pose, side, pixel)
        face = mouth(face, x, y, e, mouth_y, light, pixel)

        # Back to front: ears, face, fringe.
        for side in (-1, 1):
            ear = bump(x, y, 0.775 * side, 0.02, 0.075, 0.20)
            tone = SKIN * (0.70 if side < 0 else 0.50)
            colour = over(colour, tone * (0.8 + 0.3 * ear)[..., None], step(0.42, 0.15, ear))
        inside = inside_head(x, y)
        colour = over(colour, face, step(0.0, 6 * pixel, inside))
        parting = x + 0.22
        hairline = (
            -0.62
            - 0.17 * np.exp(-((parting / 0.30) ** 2))
            + 0.62 * np.clip(np.abs(x) - 0.42, 0.0, None) * 2.2
        )
        hairline = hairline + 0.006 * np.sin(x * 70.0) + 0.010 * np.sin(x * 23.0 + 1.0)
        hair = step(0.0, 0.05, hairline - y) * step(-0.18, 6 * pixel, inside)
        strands = 0.70 + 0.55 * np.sin((x + 0.22) * 50.0 + 5.0 * np.sin(y * 5.0)) ** 2 * np.exp(
            -(((x + 0.35) / 0.35) ** 2) - ((y + 0.95) / 0.25) ** 2
        )
        colour = (
            colour
            * (
                1.0
                - 0.22
                * np.exp(-(((y - hairline - 0.02) / 0.05) ** 2))
                * step(0.0, 6 * pixel, inside)
            )[..., None]
        )
        return over(colour, HAIR * strands[..., None], hair)
