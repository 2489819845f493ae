#!/usr/bin/env python3
"""The loss curve as a picture: plot.py CHECKPOINTS/loss.csv loss.svg

Needs nothing but Python. Grey: the training loss, a mean over 50 steps; blue,
red and green: held-out stories, facts and sums."""
import csv
import math
import sys

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 20, 40, 50
LOW, HIGH = 0.05, 10.0  # of the loss; the axis is logarithmic
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


def read(path):
    train, held = [], ([], [], [])
    with open(path, newline="", encoding="utf-8") as f:
        rows = csv.reader(f)
        next(rows)
        for row in rows:
            step = int(row[0])
            train.append((step, float(row[2])))
            if len(row) > 6:
                for to, value in zip(held, row[5:8]):
                    to.append((step, float(value)))
    smooth = [(train[i][0], sum(y for _, y in train[max(0, i - 4):i + 1]) /
               len(train[max(0, i - 4):i + 1])) for i in range(len(train))]
    return smooth, *held


def main(argv):
    if len(argv) != 3:
        raise SystemExit(__doc__)
    smooth, story, fact, sums = read(argv[1])
    last = smooth[-1][0]

    def place(step, loss):
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        share = math.log(max(loss, LOW) / LOW) / math.log(HIGH / LOW)
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
           f'height="{HEIGHT}" font-family="sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for tick in TICKS:
        _, y = place(0, tick)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" '
                   f'y2="{y:.1f}" stroke="#ddd"/><text x="{LEFT - 8}" '
                   f'y="{y + 4:.1f}" text-anchor="end">{tick}</text>')
    for i in range(5):
        x, _ = place(last * i / 4, LOW)
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" '
                   f'text-anchor="middle">{last * i // 4}</text>')
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" '
               f'text-anchor="middle">step</text>')
    legend = (("training loss", "#999", smooth),
              ("held-out stories", "#1f5fbf", story),
              ("facts", "#c0392b", fact), ("sums", "#2a8c3a", sums))
    for i, (name, colour, points) in enumerate(legend):
        path = " ".join("{:.1f},{:.1f}".format(*place(*p)) for p in points)
        out.append(f'<polyline fill="none" stroke="{colour}" '
                   f'stroke-width="1.6" points="{path}"/>')
        x = LEFT + 165 * i
        out.append(f'<line x1="{x}" x2="{x + 24}" y1="22" y2="22" '
                   f'stroke="{colour}" stroke-width="3"/>'
                   f'<text x="{x + 28}" y="26">{name} '
                   f'{points[-1][1]:.2f}</text>')
    out.append("</svg>")
    with open(argv[2], "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main(sys.argv)
