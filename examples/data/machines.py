"""Makes machines.csv: invented machines, what their sensors say, and whether they failed in the week after.

Always the same rows: run `python3 machines.py > machines.csv`.
"""

import math
import random

ROWS = 400
# Per sensor: mean, spread, and how much one spread more weighs on a failure.
SENSORS = {
    "temperature_c": (61.0, 7.5, 1.1),
    "vibration_mm_s": (2.8, 0.9, 1.9),
    "oil_age_h": (900.0, 420.0, 0.8),
    "load_percent": (55.0, 18.0, 0.5),
}


def main():
    dice = random.Random(1847)
    print(",".join([*SENSORS, "failed"]))
    for _ in range(ROWS):
        marks = [dice.gauss(0.0, 1.0) for _ in SENSORS]
        pull = sum(mark * weight for mark, (_, _, weight) in zip(marks, SENSORS.values()))
        failed = dice.random() < 1.0 / (1.0 + math.exp(-1.6 * (pull - 0.3)))
        values = [mean + mark * spread for mark, (mean, spread, _) in zip(marks, SENSORS.values())]
        print(",".join([*(f"{value:.2f}" for value in values), str(int(failed))]))


if __name__ == "__main__":
    main()
