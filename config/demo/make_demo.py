"""Makes the demonstration recording: a rendered head that speaks and changes its expression.

    python3 make_demo.py [OUT.mp4]

Needs numpy, espeak-ng and ffmpeg (`make demo` installs them). Head and voice are synthetic: no
person was recorded. The same versions of these programs give the same file.
"""

import math
import os
import subprocess
import sys
import tempfile
import wave

import numpy as np

from face import Expression, Pose, Stage

WIDTH, HEIGHT, RATE_HZ = 640, 480, 25
SOUND_HZ = 48_000

NEUTRAL = Expression(corner=0.14)
HAPPY = Expression(
    corner=1.0, width=0.8, squint=0.9, jaw=0.22, teeth=1.0, brow_outer=0.15, eye_open=-0.15
)
SURPRISED = Expression(
    brow_inner=1.0, brow_outer=1.0, eye_open=0.5, jaw=0.75, width=-0.45, teeth=0.3
)
SAD = Expression(
    brow_inner=1.0,
    brow_outer=-0.4,
    brow_together=0.4,
    corner=-0.9,
    eye_open=-0.3,
    width=-0.1,
    press=0.2,
)
ANGRY = Expression(
    brow_inner=-0.6,
    brow_outer=0.25,
    brow_together=1.0,
    eye_open=-0.12,
    squint=0.5,
    corner=-0.5,
    press=0.6,
    sneer=0.8,
    width=-0.1,
)

# Expression, pitch (0..99), words per minute, loudness (espeak-ng's amplitude) and text of each
# line.
LINES = [
    (NEUTRAL, 45, 150, 100, "This is a demonstration. Nobody here is real."),
    (HAPPY, 68, 165, 120, "What a lovely day! I am so glad to see you."),
    (SURPRISED, 80, 170, 130, "Oh! Really? I did not expect that!"),
    (SAD, 30, 135, 80, "I am sorry. It did not go well at all."),
    (ANGRY, 42, 180, 170, "No! Stop it! I have had enough of this!"),
]
BEFORE_S, BETWEEN_S, AFTER_S = 0.8, 0.5, 0.7


def speak(text, pitch, speed, loudness):
    """Speaks a line; returns mono samples at SOUND_HZ in -1..1."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "line.wav")
        subprocess.run(
            [
                "espeak-ng",
                "-v",
                "en-us",
                "-p",
                str(pitch),
                "-s",
                str(speed),
                "-a",
                str(loudness),
                "-w",
                path,
                text,
            ],
            check=True,
        )
        with wave.open(path) as file:
            rate = file.getframerate()
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768.0
    at = np.arange(int(len(samples) * SOUND_HZ / rate)) * (rate / SOUND_HZ)
    return np.interp(at, np.arange(len(samples)), samples)


def compose():
    """Returns (samples, [(start in seconds, expression)], number of frames) of the recording."""
    pieces, faces = [np.zeros(int(BEFORE_S * SOUND_HZ))], [(-1.0, NEUTRAL)]
    for expression, pitch, speed, loudness, text in LINES:
        # The face changes a little before the words begin.
        faces.append((sum(map(len, pieces)) / SOUND_HZ - 0.45, expression))
        pieces += [speak(text, pitch, speed, loudness), np.zeros(int(BETWEEN_S * SOUND_HZ))]
    pieces[-1] = np.zeros(int(AFTER_S * SOUND_HZ))
    faces.append((sum(map(len, pieces[:-1])) / SOUND_HZ + 0.25, NEUTRAL))
    sound = np.concatenate(pieces)
    # The sound is padded to whole frames, so that sound and video end together.
    count = math.ceil(len(sound) / SOUND_HZ * RATE_HZ)
    return np.pad(sound, (0, count * SOUND_HZ // RATE_HZ - len(sound))), faces, count


def lips(sound, count):
    """For each frame: (loudness in 0..1, spectral brightness: 0 dark vowels, 1 bright ones)."""
    hop = SOUND_HZ // RATE_HZ
    pieces = sound[: count * hop].reshape(count, hop)
    loud = np.sqrt((pieces**2).mean(axis=1))
    loud = np.clip(loud / max(np.percentile(loud, 95), 1e-6), 0.0, 1.0) ** 0.7
    crossings = (np.diff(np.signbit(pieces), axis=1) != 0).mean(axis=1)
    return loud, np.clip(crossings / 0.12, 0.0, 1.0)


def ease(t):
    t = min(max(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def face_at(t, faces, loud, bright):
    e = faces[0][1]
    for start, expression in faces[1:]:
        weight = ease((t - start) / 0.4)
        e = e * (1.0 - weight) + expression * weight
    # Speech moves the jaw, width and teeth around the position that the expression gives them.
    e = e + Expression(
        jaw=0.42 * loud - 0.35 * e.jaw * (1.0 - loud),
        width=0.35 * (bright - 0.5) * loud,
        teeth=0.5 * loud,
        press=-e.press * loud,
    )
    e.teeth = min(e.teeth, 1.0)
    # A blink of 160 ms about every three seconds.
    blink = min(abs((t - at) / 0.08) for at in np.arange(1.9, 60.0, 3.1))
    if blink < 1.0:
        e.eye_open = e.eye_open * blink - (1.0 - blink)
    return e


def pose_at(t):
    def wave_at(period_s, phase):
        return math.sin(2.0 * math.pi * t / period_s + phase)

    return Pose(
        x=WIDTH / 2 + 9.0 * wave_at(5.3, 0.4) + 3.0 * wave_at(1.9, 2.0),
        y=HEIGHT * 0.49 + 5.0 * wave_at(3.7, 1.1),
        scale=150.0 + 4.0 * wave_at(7.1, 0.0),
        roll=0.035 * wave_at(4.7, 0.9),
        yaw=0.09 * wave_at(6.1, 2.2),
        pitch=0.04 * wave_at(3.1, 0.3),
        gaze_x=0.35 * wave_at(6.7, 1.0),
        gaze_y=0.2 * wave_at(5.9, 2.5),
    )


def main(out):
    sound, faces, count = compose()
    loud, bright = lips(sound, count)
    stage = Stage(HEIGHT, WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "sound.wav")
        with wave.open(path, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SOUND_HZ)
            file.writeframes(
                (np.clip(sound / np.abs(sound).max() * 0.7, -1.0, 1.0) * 32767.0)
                .astype("<i2")
                .tobytes()
            )
        # VP9 and Opus are royalty-free. One thread and bitexact give the same bytes each time.
        encode = [
            "ffmpeg",
            "-hide_banner",
            "-loglevel",
            "error",
            "-y",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
        ]
        encode += [
            "-s",
            f"{WIDTH}x{HEIGHT}",
            "-r",
            str(RATE_HZ),
            "-i",
            "-",
            "-i",
            path,
            "-pix_fmt",
            "yuv420p",
        ]
        encode += [
            "-c:v",
            "libvpx-vp9",
            "-crf",
            "31",
            "-b:v",
            "0",
            "-g",
            "50",
            "-threads",
            "1",
            "-row-mt",
            "0",
            "-cpu-used",
            "2",
        ]
        encode += [
            "-c:a",
            "libopus",
            "-b:a",
            "40k",
            "-flags",
            "+bitexact",
            "-fflags",
            "+bitexact",
            "-movflags",
            "+faststart",
            out,
        ]
        encoder = subprocess.Popen(encode, stdin=subprocess.PIPE)
        for index in range(count):
            t = index / RATE_HZ
            encoder.stdin.write(
                stage.render(face_at(t, faces, loud[index], bright[index]), pose_at(t)).tobytes()
            )
            if index % RATE_HZ == 0:
                print(f"\r{index} of {count} pictures", end="", file=sys.stderr, flush=True)
        encoder.stdin.close()
        if encoder.wait() != 0:
            raise SystemExit("ffmpeg failed")
    print(f"\r{out}: {count / RATE_HZ:.2f} s, {os.path.getsize(out)} bytes", file=sys.stderr)


if __name__ == "__main__":
    main(
        sys.argv[1]
        if len(sys.argv) > 1
        else os.path.join(os.path.dirname(os.path.abspath(__file__)), "demo.mp4")
    )
