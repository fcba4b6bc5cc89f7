// The picture of a cluster's neighbourhood, made ready to be looked at: who is linked to whom, and how strongly.

import type { Picture, PicturedFace } from "../api/types";

export interface Neighbour {
  face: string;
  linkage: number;
}

export interface Neighbourhood {
  picture: Picture;
  faces: Map<string, PicturedFace>;
  /** Of each face, strongest first. */
  neighbours: Map<string, Neighbour[]>;
}

export function neighbourhood(picture: Picture, before?: Neighbourhood): Neighbourhood {
  const turned = before ? alike(picture, before) : picture;
  const neighbours = new Map<string, Neighbour[]>(turned.faces.map(({ face_id }) => [face_id, []]));
  for (const { a, b, linkage } of turned.linkages) {
    neighbours.get(a)?.push({ face: b, linkage });
    neighbours.get(b)?.push({ face: a, linkage });
  }
  for (const of of neighbours.values()) of.sort((one, other) => other.linkage - one.linkage);
  return { picture: turned, faces: new Map(turned.faces.map((face) => [face.face_id, face])), neighbours };
}

/** A principal component has no sign: it is turned so that faces stay where they were when the picture is drawn anew. */
function alike(picture: Picture, before: Neighbourhood): Picture {
  let [sameX, sameY] = [0, 0];
  for (const { face_id, x, y } of picture.faces) {
    const was = before.faces.get(face_id);
    sameX += x * (was?.x ?? 0);
    sameY += y * (was?.y ?? 0);
  }
  const [signX, signY] = [sameX < 0 ? -1 : 1, sameY < 0 ? -1 : 1];
  return { ...picture, faces: picture.faces.map((face) => ({ ...face, x: signX * face.x, y: signY * face.y })) };
}

/**
 * The face to go to from `from` with an arrow key: near, and in that direction rather than beside it.
 * `dx`, `dy`: the direction, one of them 0.
 */
export function towards(
  faces: Iterable<PicturedFace>,
  from: PicturedFace,
  dx: number,
  dy: number,
): PicturedFace | undefined {
  let best: PicturedFace | undefined;
  let least = Infinity;
  for (const face of faces) {
    const [x, y] = [face.x - from.x, face.y - from.y];
    const ahead = x * dx + y * dy;
    if (ahead <= 0) continue;
    const cost = ahead + 2 * Math.abs(x * dy + y * dx);
    if (cost < least) [best, least] = [face, cost];
  }
  return best;
}
