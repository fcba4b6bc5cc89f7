import { expect, test } from "vitest";
import type { Picture } from "../api/types";
import { neighbourhood, towards } from "./neighbourhood";

const picture = (turn: number): Picture => ({
  cluster_id: "1",
  size: 3,
  shown: 3,
  faces: [
    { face_id: "west", cluster_id: "1", x: -1 * turn, y: 0 },
    { face_id: "middle", cluster_id: "1", x: 0, y: 0.1 },
    { face_id: "east", cluster_id: "2", x: 1 * turn, y: 0 },
    { face_id: "north", cluster_id: "1", x: 0, y: 1 },
  ],
  linkages: [
    { a: "west", b: "middle", linkage: 0.6 },
    { a: "north", b: "west", linkage: 0.9 },
  ],
});

test("each face knows its linkages, strongest first", () => {
  const { neighbours } = neighbourhood(picture(1));
  expect(neighbours.get("west")).toEqual([
    { face: "north", linkage: 0.9 },
    { face: "middle", linkage: 0.6 },
  ]);
  expect(neighbours.get("east")).toEqual([]);
});

test("a picture that comes back mirrored is turned to be as it was", () => {
  const { faces } = neighbourhood(picture(-1), neighbourhood(picture(1)));
  expect(faces.get("west")?.x).toBe(-1);
  expect(faces.get("north")?.y).toBe(1);
});

test("arrow keys go to the next face that way, and nowhere at the edge", () => {
  const { faces } = neighbourhood(picture(1));
  const from = (id: string, dx: number, dy: number) => {
    const face = faces.get(id);
    return face && towards(faces.values(), face, dx, dy)?.face_id;
  };
  expect(from("west", 1, 0)).toBe("middle");
  expect(from("middle", 1, 0)).toBe("east");
  expect(from("middle", 0, 1)).toBe("north");
  expect(from("north", 0, 1)).toBeUndefined();
});
