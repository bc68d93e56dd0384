"""Makes the clips of the site, their posters and their catalogue in static/clips: `make clips`.

Every picture is computed by a filter of ffmpeg, and every clip ends where it begins. The same
version of ffmpeg makes the same files.
"""

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

from lab.servers import ROOT, find

FOLDER = ROOT / "static/clips"
CATALOGUE = FOLDER / "clips.json"
SIZE = "480x270"
RATE = 24
MAX_BYTES = 150 * 1024


class Clip(NamedTuple):
    """One clip: what people are told of it, and how ffmpeg makes it."""

    id: str
    title: str
    about: str
    seconds: int
    source: str
    bitrate: str = "90k"
    poster_at: float = 1.5
    there_and_back: bool = False
    """Whether `source` is half of the clip, which then runs backwards to where it began."""


def _polar(x: str, y: str) -> tuple[str, str]:
    """The distance from a point and the angle from twelve o'clock, clockwise, for `geq`."""
    return f"hypot(X-{x},Y-{y})", f"mod(atan2(X-{x},{y}-Y)+2*PI,2*PI)"


def _clock() -> str:
    """A dial on which one turn of the hand takes the eight seconds of the clip."""
    far, angle = _polar("240", "135")
    behind = f"mod(2*PI*T/8-({angle})+2*PI,2*PI)"  # how far the hand has moved on from here
    on_dial = f"lt({far},104)"
    tail = f"{on_dial}*gt({far},14)*pow(1-({behind})/(2*PI),3)"
    tick = (
        f"between({far},110,118)*lt(abs(mod(({angle})+PI/12,PI/6)-PI/12)*{far},2.2)"
        f"+lt({far},8)+lt(abs({far}-122),0.9)*0.5"
    )
    hand = f"{on_dial}*lt(min({behind},2*PI-({behind}))*{far},1.6)"
    return (
        f"nullsrc=s={SIZE}:r={RATE}:d=8,format=gbrp,geq="
        f"r='20+200*({tail})+235*({tick})+235*({hand})':"
        f"g='26+120*({tail})+220*({tick})+220*({hand})':"
        f"b='44+60*({tail})+200*({tick})+200*({hand})'"
    )


def _rings() -> str:
    """Waves from three stones: sines whose periods divide the eight seconds of the clip."""
    stones = [("120", "80", 28, 4), ("370", "120", 22, 8), ("220", "240", 34, 4)]
    waves = "+".join(
        f"sin(2*PI*({_polar(x, y)[0]}/{length}-T/{period}*2))*exp(-{_polar(x, y)[0]}/260)"
        for x, y, length, period in stones
    )
    return (
        f"nullsrc=s={SIZE}:r={RATE}:d=8,format=gbrp,geq="
        f"r='clip(28+26*({waves})+Y/9,0,255)':g='clip(96+44*({waves})+Y/9,0,255)':"
        f"b='clip(128+48*({waves})-Y/9,0,255)'"
    )


def _drift() -> str:
    """Three gradients that wander on circles, once in the ten seconds of the clip."""

    def gradient(x: int, y: int, radius: int, phase: float, width: int) -> str:
        turn = f"(2*PI*(T/10+{phase}))"
        far, _ = _polar(f"{x}-{radius}*cos{turn}", f"{y}-{radius}*sin{turn}")
        return f"exp(-pow({far}/{width},2))"

    rose, gold, teal = (
        gradient(120, 90, 70, 0.0, 190),
        gradient(350, 220, 90, 0.35, 170),
        gradient(390, 50, 80, 0.7, 180),
    )
    return (
        f"nullsrc=s={SIZE}:r={RATE}:d=10,format=gbrp,geq="
        f"r='clip(58+150*({rose})+170*({gold})-40*({teal}),0,255)':"
        f"g='clip(46+20*({rose})+125*({gold})+130*({teal}),0,255)':"
        f"b='clip(104+20*({rose})-40*({gold})+60*({teal}),0,255)'"
    )


CLIPS = [
    Clip(
        "slow-colours",
        "Slow colours",
        "Dusk over nothing at all: three gradients drift through each other.",
        10,
        _drift(),
        poster_at=2.5,
    ),
    Clip(
        "mandelbrot",
        "Into the Mandelbrot set",
        "Down to a small spiral at the edge of the set, and out again.",
        10,
        f"mandelbrot=s={SIZE}:r={RATE}:start_x=-0.743643887037151:start_y=0.13182590420533"
        ":start_scale=2.4:end_scale=0.05:end_pts=120:maxiter=400:inner=black"
        ":outer=normalized_iteration_count",
        bitrate="40k",
        poster_at=4.9,
        there_and_back=True,
    ),
    Clip(
        "clock",
        "Eight seconds",
        "A clock whose hand takes eight seconds for its round.",
        8,
        _clock(),
        poster_at=5.5,
    ),
    Clip(
        "life",
        "The game of life",
        "Cells are born beside three others, and die alone or in a crowd.",
        8,
        "life=s=96x54:r=12:ratio=0.14:seed=7:mold=12:life_color=0x7be0c3:death_color=0x3b5bdb"
        f":mold_color=0x101522,trim=start_frame=60:end_frame=108,setpts=PTS-STARTPTS,"
        f"scale={SIZE.replace('x', ':')}:flags=neighbor",
        there_and_back=True,
    ),
    Clip(
        "rings",
        "Rings on water",
        "Three stones fell into a pond; their waves cross and never meet.",
        8,
        _rings(),
    ),
    Clip(
        "test-card",
        "Test card",
        "Bars, a ramp and a moving edge, as televisions knew them at night.",
        8,
        f"testsrc2=s={SIZE}:r={RATE}:d=8",
    ),
]


def main() -> None:
    """Make all clips anew; raises `CalledProcessError` when ffmpeg fails."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for clip in CLIPS:
        made = make(clip)
        print(f"{made.name:<20} {made.stat().st_size:>7} bytes")
    told = [
        {"id": clip.id, "title": clip.title, "about": clip.about, "seconds": clip.seconds}
        for clip in CLIPS
    ]
    CATALOGUE.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def make(clip: Clip) -> Path:
    """Make one clip and its poster; return where the clip lies."""
    video, poster = FOLDER / f"{clip.id}.webm", FOLDER / f"{clip.id}.webp"
    filters = clip.source
    if clip.there_and_back:
        filters += "[a];[a]split[b][c];[c]reverse[d];[b][d]concat"
    exact = ["-fflags", "+bitexact", "-flags:v", "+bitexact", "-threads", "1"]
    _ffmpeg(
        *["-f", "lavfi", "-i", filters, "-t", str(clip.seconds), "-pix_fmt", "yuv420p"],
        *["-c:v", "libvpx-vp9", "-crf", "36", "-b:v", clip.bitrate, "-cpu-used", "2"],
        *["-g", "240", *exact, str(video)],
    )
    _ffmpeg(
        *["-ss", str(clip.poster_at), "-i", str(video), "-frames:v", "1"],
        *["-c:v", "libwebp", "-quality", "72", *exact, str(poster)],
    )
    if video.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{video.name} is larger than {MAX_BYTES} bytes: lower its bitrate")
    return video


def _ffmpeg(*arguments: str) -> None:
    program = find("ffmpeg") or "ffmpeg"
    subprocess.run([program, "-v", "error", "-nostdin", "-y", *arguments], check=True)


if __name__ == "__main__":
    main()
