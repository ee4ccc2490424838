"""The places: each a camera position with a painted background and occluders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ssrl.datasets.synthetic.camera import SUPERSAMPLING, Camera, Color

TEXTURE_SIZE = 256


@dataclass(frozen=True)
class Place:
    """What is fixed about a scene. Lengths in meters; `wings` are (side, depth, fraction of the frame's width)."""

    focal: float  # in frame widths
    horizon: float  # in frame heights
    camera_height: float
    backdrop_depth: float
    ground: Color
    wall: Color
    paving: float  # side length of a paving stone; 0 for asphalt
    stripes: tuple[float, ...] = ()  # X of painted lines along the view
    crossing: float | None = None  # depth of a zebra crossing
    wings: tuple[tuple[int, float, float], ...] = ()
    trees: tuple[tuple[float, float], ...] = ()  # (X, Z)
    posts: tuple[tuple[float, float], ...] = ()  # (X, Z)
    gray: bool = False
    sun: tuple[float, float] = (0.9, 0.5)  # offset of a figure's shadow in X and Z


PLACES = (
    Place(
        0.86,
        0.20,
        2.9,
        33.0,
        (142, 138, 130),
        (150, 118, 100),
        0.9,
        stripes=(-3.4, 3.6),
        wings=((-1, 15.0, 0.24), (1, 18.0, 0.20)),
        trees=((-9.5, 28.0), (7.5, 30.0)),
        posts=((4.6, 9.5),),
    ),
    Place(
        0.80,
        0.16,
        3.2,
        30.0,
        (112, 113, 116),
        (172, 166, 152),
        0.0,
        stripes=(-4.5, 0.2, 5.0),
        crossing=12.5,
        wings=((1, 14.0, 0.30),),
        trees=((-10.0, 24.0), (-6.0, 28.0)),
        sun=(-1.2, 0.3),
    ),
    Place(
        0.92,
        0.24,
        2.7,
        36.0,
        (128, 126, 122),
        (124, 128, 130),
        1.4,
        wings=((-1, 17.0, 0.30), (1, 14.0, 0.16)),
        posts=((-3.2, 10.0), (3.4, 10.0)),
        gray=True,
        sun=(0.5, 0.6),
    ),
    Place(
        0.84,
        0.18,
        3.0,
        32.0,
        (156, 148, 132),
        (188, 178, 160),
        0.6,
        crossing=22.0,
        wings=((-1, 13.0, 0.18),),
        trees=((6.4, 13.5), (10.5, 27.0), (-3.5, 29.0)),
        sun=(1.4, -0.2),
    ),
    Place(
        0.90,
        0.22,
        2.8,
        34.0,
        (104, 110, 102),
        (132, 92, 82),
        0.0,
        stripes=(-2.8, 2.8),
        wings=((-1, 18.0, 0.26), (1, 16.0, 0.26)),
        trees=((-7.0, 12.0),),
        posts=((3.9, 11.0),),
        sun=(-0.6, 0.7),
    ),
    Place(
        0.82,
        0.19,
        3.3,
        29.0,
        (138, 140, 142),
        (146, 148, 154),
        2.0,
        stripes=(0.0,),
        wings=((1, 17.0, 0.34),),
        posts=((-4.0, 9.0), (-4.0, 16.0)),
        gray=True,
        sun=(0.2, 0.4),
    ),
)


@dataclass(frozen=True)
class Occluder:
    """Something upright that hides what is behind it: an RGBA sprite in canvas pixels, its depth in meters."""

    depth: float
    sprite: Image.Image
    column: int
    row: int
    solid_span: tuple[float, float] | None  # frame columns [start, stop) hidden from top to ground


@dataclass(frozen=True)
class Scene:
    place: Place
    camera: Camera
    background: Image.Image  # RGB, SUPERSAMPLING times the frame
    occluders: tuple[Occluder, ...]  # far to near

    def sees(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Whether the camera sees the ground points (X, Z); both (n,), in meters."""
        columns = self.camera.width / 2 + self.camera.focal * x / np.maximum(z, 0.1)
        seen: np.ndarray = (columns > 0) & (columns < self.camera.width)
        for occluder in self.occluders:
            if occluder.solid_span is not None:
                start, stop = occluder.solid_span
                seen &= (z < occluder.depth) | (columns < start) | (columns > stop)
        return seen


@lru_cache(maxsize=len(PLACES))
def build_scene(number: int, seed: int, height: int, width: int) -> Scene:
    """Scene `number` (counted from 1) of the dataset with `seed`, for frames of `height` x `width`."""
    place = PLACES[(number - 1) % len(PLACES)]
    rng = np.random.default_rng([seed, number, 77])
    camera = Camera(height, width, place.focal * width, place.horizon * height, place.camera_height)
    picture = paint_ground(camera, place, rng)
    picture = paint_backdrop(picture, camera, place, rng)
    picture = np.clip(picture * make_vignette(picture.shape[:2]), 0, 255)
    background = to_image(picture, place)
    background = cast_shadows(background, camera, rng)
    occluders = [make_wall(camera, place, *wing, rng) for wing in place.wings]
    occluders += [make_tree(camera, place, x, z, rng) for x, z in place.trees]
    occluders += [make_post(camera, place, x, z) for x, z in place.posts]
    return Scene(place, camera, background, tuple(sorted(occluders, key=lambda occluder: -occluder.depth)))


def to_image(picture: np.ndarray, place: Place) -> Image.Image:
    image = Image.fromarray(picture.astype(np.uint8))
    return image.convert("L").convert("RGB") if place.gray else image


def make_pixel_grid(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Make the frame (columns, rows) of the centers of all canvas pixels, each (H', W')."""
    rows, columns = np.mgrid[: camera.height * SUPERSAMPLING, : camera.width * SUPERSAMPLING].astype(np.float32)
    return (columns + 0.5) / SUPERSAMPLING, (rows + 0.5) / SUPERSAMPLING


def draw_texture(rng: np.random.Generator, octaves: int = 5) -> np.ndarray:
    """Draw multi-scale value noise: (TEXTURE_SIZE, TEXTURE_SIZE) float32 with mean 0 and deviation 1."""
    total = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE), dtype=np.float32)
    for octave in range(octaves):
        cells = 8 << octave
        coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
        total += np.asarray(coarse.resize((TEXTURE_SIZE, TEXTURE_SIZE), Image.Resampling.BICUBIC)) * 0.7**octave
    texture: np.ndarray = (total - total.mean()) / total.std()
    return texture


def sample(texture: np.ndarray, x: np.ndarray, y: np.ndarray, per_meter: float) -> np.ndarray:
    """Sample the texture at (x, y) meters, mirrored at its edges so that it continues without a seam."""
    u, v = (np.floor(at * per_meter).astype(np.int32) + 97 for at in (x, y))
    last = TEXTURE_SIZE - 1
    sampled: np.ndarray = texture[last - np.abs(v % (2 * last) - last), last - np.abs(u % (2 * last) - last)]
    return sampled


def paint_ground(camera: Camera, place: Place, rng: np.random.Generator) -> np.ndarray:
    """Paint the ground plane with its grain, stones and lines: (H', W', 3) float32."""
    columns, rows = make_pixel_grid(camera)
    z = camera.focal * camera.camera_height / np.maximum(rows - camera.horizon, 1.0)
    x = (columns - camera.width / 2) * z / camera.focal
    meters_per_pixel = z / camera.focal
    texture = draw_texture(rng)
    shade = 1 + 0.05 * sample(texture, x, z, 9.0) + 0.05 * sample(texture, x + 50, z, 41.0)
    shade += 0.03 * sample(texture, x, z + 20, 2.5)
    if place.paving:
        for along in (x, z):
            joint = np.abs((along / place.paving) % 1 - 0.5) > 0.5 - 0.035 / place.paving
            shade -= 0.16 * joint * np.clip(0.12 / meters_per_pixel / 8, 0, 1)
        stone = np.floor(x / place.paving) * 37 + np.floor(z / place.paving) * 91
        shade += 0.05 * np.sin(stone * 12.9898)
    picture = shade[..., None] * np.array(place.ground, dtype=np.float32)
    painted = np.zeros(z.shape, dtype=bool)
    for at in place.stripes:
        painted |= (np.abs(x - at) < 0.09) & (z % 4 < 3.2)
    if place.crossing is not None:
        painted |= (np.abs(z - place.crossing) < 1.6) & (np.abs(x) < 6) & (x % 1.1 < 0.55)
    worn = 0.65 + 0.1 * sample(texture, x, z, 23.0)
    paint = np.array((214, 210, 200), dtype=np.float32)
    return np.where(painted[..., None], picture + (paint - picture) * worn[..., None], picture)


def paint_backdrop(picture: np.ndarray, camera: Camera, place: Place, rng: np.random.Generator) -> np.ndarray:
    """Paint a building with windows at the end of the ground."""
    columns, rows = make_pixel_grid(camera)
    x = (columns - camera.width / 2) * place.backdrop_depth / camera.focal
    y = camera.camera_height - (rows - camera.horizon) * place.backdrop_depth / camera.focal
    texture = draw_texture(rng)
    wall = 1 + 0.05 * sample(texture, x + 60, y + 60, 13.0) - 0.06 * (np.abs(y % 3.2) < 0.25)
    color = wall[..., None] * np.array(place.wall, dtype=np.float32) * 0.92
    window = (np.abs(x % 2.6 - 1.3) < 0.75) & (np.abs(y % 3.2 - 1.7) < 0.85)
    lit = rng.uniform(0.30, 0.62, size=(64, 64)).astype(np.float32)
    glass = lit[(y / 3.2).astype(int) % 64, np.floor(x / 2.6).astype(int) % 64][..., None]
    color = np.where(window[..., None], glass * np.array((150, 165, 178), dtype=np.float32), color)
    curb = (y > 0) & (y < 0.35)
    color[curb] *= 0.6
    return np.where((y > 0)[..., None], color, picture)


def make_vignette(shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return np.asarray(1.05 - 0.13 * (rows**2 + columns**2), dtype=np.float32)[..., None]


def cast_shadows(background: Image.Image, camera: Camera, rng: np.random.Generator) -> Image.Image:
    """Cast large soft shadows of objects outside the frame."""
    shadow = Image.new("L", background.size)
    paint = ImageDraw.Draw(shadow)
    for _ in range(3):
        depth, x = rng.uniform(camera.nearest_ground, 18), rng.uniform(-9, 9)
        reach, slant = rng.uniform(1.5, 4), rng.uniform(-4, 4)
        corners = [(x, depth), (x + reach, depth), (x + reach + slant, depth * 1.5), (x + slant, depth * 1.5)]
        points = [camera.project((cx, 0.0, cz)) for cx, cz in corners]
        paint.polygon([(c * SUPERSAMPLING, r * SUPERSAMPLING) for c, r in points], fill=int(rng.uniform(40, 80)))
    shadow = shadow.filter(ImageFilter.GaussianBlur(background.size[0] / 200))
    return Image.composite(Image.new("RGB", background.size), background, shadow)


def make_wall(
    camera: Camera, place: Place, side: int, depth: float, share: float, rng: np.random.Generator
) -> Occluder:
    """Make a wall that covers one side of the view from the frame's edge inwards; figures come out from behind it."""
    meter = camera.pixels_per_meter(depth) * SUPERSAMPLING
    width = round(share * camera.width * SUPERSAMPLING)
    top = max(0, round(camera.project((0, 4.2, depth))[1] * SUPERSAMPLING))
    foot = round(camera.project((0, 0, depth))[1] * SUPERSAMPLING)
    rows, columns = np.mgrid[: foot - top, :width].astype(np.float32) / meter
    course = np.floor(rows / 0.3)
    mortar = (rows % 0.3 < 0.03) | ((columns + 0.3 * (course % 2)) % 0.6 < 0.03)
    grain = sample(draw_texture(rng), columns, rows, 21.0)
    shade = (0.86 if side < 0 else 0.74) * (1 + 0.05 * grain - 0.12 * mortar)
    shade[columns > (width / meter - 0.12) if side < 0 else columns < 0.12] *= 0.7
    color = np.array(place.wall[::-1] if place.paving else place.wall, dtype=np.float32) * 0.9
    sprite = to_image(np.clip(shade[..., None] * color, 0, 255), place)
    sprite.putalpha(255)
    column = 0 if side < 0 else camera.width * SUPERSAMPLING - width
    span = (column / SUPERSAMPLING, (column + width) / SUPERSAMPLING)
    return Occluder(depth, sprite, column, top, span)


def make_tree(camera: Camera, place: Place, x: float, z: float, rng: np.random.Generator) -> Occluder:
    meter = camera.pixels_per_meter(z) * SUPERSAMPLING
    size = (round(4.4 * meter), round(6.5 * meter))
    sprite = Image.new("RGBA", size)
    paint = ImageDraw.Draw(sprite)
    paint.rectangle([2.05 * meter, 2.5 * meter, 2.35 * meter, 6.5 * meter], fill=(74, 60, 48, 255))
    for _ in range(70):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1.5) ** 0.8
        cx, cy, r = 2.2 + reach * np.cos(angle), 2.1 + 1.1 * reach * np.sin(angle), rng.uniform(0.2, 0.5)
        light = rng.uniform(0.6, 1.25) - 0.12 * (cy - 2)
        leaf = (int(62 * light), int(88 * light), int(50 * light), 255)
        paint.ellipse([(cx - r) * meter, (cy - r) * meter, (cx + r) * meter, (cy + r) * meter], fill=leaf)
    return place_upright(camera, place, x, z, sprite, 2.2 * meter)


def make_post(camera: Camera, place: Place, x: float, z: float) -> Occluder:
    meter = camera.pixels_per_meter(z) * SUPERSAMPLING
    sprite = Image.new("RGBA", (max(3, round(0.3 * meter)), round(5.5 * meter)))
    paint = ImageDraw.Draw(sprite)
    width, height = sprite.size
    paint.rectangle([width * 0.3, 0, width * 0.7, height], fill=(70, 74, 76, 255))
    paint.rectangle([width * 0.3, 0, width * 0.42, height], fill=(104, 108, 110, 255))
    paint.rectangle([0, height - 0.4 * meter, width, height], fill=(60, 62, 64, 255))
    return place_upright(camera, place, x, z, sprite, width / 2)


def place_upright(camera: Camera, place: Place, x: float, z: float, sprite: Image.Image, axis: float) -> Occluder:
    """Place a sprite, whose trunk is at column `axis`, on the ground at (X, Z)."""
    column, foot = camera.project((x, 0.0, z))
    if place.gray:
        alpha = sprite.getchannel("A")
        sprite = sprite.convert("L").convert("RGB")
        sprite.putalpha(alpha)
    left, top = round(column * SUPERSAMPLING - axis), round(foot * SUPERSAMPLING) - sprite.height
    return Occluder(z, sprite, left, top, None)
