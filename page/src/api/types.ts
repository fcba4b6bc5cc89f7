// What the daemon's API answers with; its OpenAPI document is at /v1/openapi.json.

export interface Collection {
  collection: string;
  faces: number;
  clusters: number;
  sequence: number;
  /** How many clusters are of which size: above the bucket before, up to `up_to`. */
  sizes: SizeBucket[];
}

export interface SizeBucket {
  up_to: number;
  clusters: number;
}

export interface Cluster {
  cluster_id: string;
  size: number;
  version: number;
  /** That of the event which changed it last. */
  sequence: number;
  status: "living" | "merged";
  merged_into?: string;
  name?: string;
  pinned?: true;
}

export interface Face {
  face_id: string;
  cluster_id: string;
  size: number;
  version: number;
  name?: string;
  pinned?: true;
}

export interface ClusterPage {
  clusters: Cluster[];
  next: string | null;
}

export interface FacePage {
  faces: { face_id: string }[];
  next: string | null;
}

/** The neighbourhood of a cluster in two dimensions; who is of another cluster is a stranger. */
export interface Picture {
  cluster_id: string;
  size: number;
  /** Members in the picture: not all of a large cluster. */
  shown: number;
  faces: PicturedFace[];
  linkages: Linkage[];
  /** Above it a linkage is a link. */
  threshold?: number;
}

export interface PicturedFace {
  face_id: string;
  cluster_id: string;
  x: number;
  y: number;
}

/** The model's probability that two faces are one person. */
export interface Linkage {
  a: string;
  b: string;
  linkage: number;
}

export interface Why {
  together: boolean;
  threshold: number;
  /** The path whose weakest link is strongest; empty when there is none. */
  path: { from: string; to: string; linkage: number }[];
}

export type EventType = "created" | "joined" | "merged" | "split" | "left" | "erased" | "settled";

/** A change, as on the topic cluster-events: schemas/cluster-event.schema.json. */
export interface ClusterEvent {
  type: EventType;
  collection: string;
  sequence: number;
  cause: { kind: "record" | "refresh" | "expired" | "api" };
  cluster_id?: string;
  version?: number;
  size_before?: number;
  size_after?: number;
  face_id?: string;
  into?: { cluster_id: string; size_after: number; version: number };
  merged?: { cluster_id: string; size_before: number; version: number; name?: string; pinned?: true };
  faces?: number;
  clusters?: number;
}
