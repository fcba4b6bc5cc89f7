//! The table of faces: one row a node, shared by every step of the engine.
//!
//! Nodes are dense and used again: a newcomer takes the node freed last, or the next new one. So the
//! table is as long as the collection ever was large, and every table beside it that has a row a
//! node too. Vectors lie flat, row after row, so that a step can walk them without chasing pointers.
//! Adding, removing and looking up cost O(d).

use std::collections::HashMap;

use crate::face::{Arrival, Embedding, FaceId, NodeId, Place, Timestamp};

/// Vectors of one width, row after row.
#[derive(Debug, Clone)]
pub struct Rows {
    dimension: usize,
    values: Vec<f32>,
}

impl Rows {
    pub fn new(dimension: usize) -> Rows {
        Rows { dimension, values: Vec::new() }
    }

    /// Rows that lie in `values` one after the other.
    pub fn of(dimension: usize, values: Vec<f32>) -> Rows {
        Rows { dimension, values }
    }

    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// All rows, one after the other.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.dimension
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn row(&self, node: NodeId) -> &[f32] {
        &self.values[node.index() * self.dimension..][..self.dimension]
    }

    pub fn row_mut(&mut self, node: NodeId) -> &mut [f32] {
        &mut self.values[node.index() * self.dimension..][..self.dimension]
    }

    /// Makes room up to `len` rows; new ones are zero.
    pub fn grow(&mut self, len: usize) {
        self.values.resize(len * self.dimension, 0.0);
    }
}

/// What is known of a face beside its vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    pub id: FaceId,
    pub arrival: Arrival,
    /// The picture it was cut from.
    pub frame: Option<FaceId>,
    pub quality: Option<f32>,
    pub captured_at: Option<Timestamp>,
    pub arrived_at: Timestamp,
    /// The record of the input that brought it.
    pub place: Place,
}

/// What retention goes by: when a face was captured, but no later than it came, or a camera with a
/// wrong clock would keep its faces for ever.
pub fn event_time(captured_at: Option<Timestamp>, arrived_at: Timestamp) -> Timestamp {
    captured_at.map_or(arrived_at, |captured_at| captured_at.min(arrived_at))
}

impl Known {
    /// What retention goes by.
    pub fn time(&self) -> Timestamp {
        event_time(self.captured_at, self.arrived_at)
    }
}

/// A face to be put into the table.
#[derive(Debug, Clone)]
pub struct NewFace<'a> {
    pub embedding: &'a Embedding,
    pub known: Known,
}

/// Every face of a collection: what is known of it, its embedding `f` and its enhanced embedding `g`.
#[derive(Debug)]
pub struct Faces {
    /// By node; nothing where no face is.
    known: Vec<Option<Known>>,
    nodes: HashMap<FaceId, NodeId>,
    /// Nodes without a face, the next to be used last. When it is empty, holes may yet be there
    /// that nobody has listed: `add` does so when it needs one.
    free: Vec<NodeId>,
    embeddings: Rows,
    /// Zero until encoded.
    pub(crate) enhanced: Rows,
}

impl Faces {
    pub fn new(dimension: usize) -> Faces {
        Faces {
            known: Vec::new(),
            nodes: HashMap::new(),
            free: Vec::new(),
            embeddings: Rows::new(dimension),
            enhanced: Rows::new(dimension),
        }
    }

    /// How many faces there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many nodes were ever given out: what a table with a row a node has to hold.
    pub fn slots(&self) -> usize {
        self.known.len()
    }

    /// Gives a face the node freed last, else the next new one. The caller has made sure that its
    /// id has none yet.
    pub fn add(&mut self, face: NewFace<'_>) -> NodeId {
        let node = self.next_node();
        self.put(node, face);
        node
    }

    /// Puts a face at the node it had, for who restores a table. Nodes left out between are holes,
    /// which newcomers fill from the lowest on, in whatever order the others were put.
    pub fn add_at(&mut self, node: NodeId, face: NewFace<'_>) {
        assert!(!self.is_live(node), "node {node} is given twice");
        self.free.clear();
        self.put(node, face);
    }

    /// Forgets the face at `node`, its vectors included, and frees the node.
    pub fn remove(&mut self, node: NodeId) -> Known {
        let known = self.known[node.index()].take().expect("a face is removed once");
        self.nodes.remove(&known.id);
        self.embeddings.row_mut(node).fill(0.0);
        self.enhanced.row_mut(node).fill(0.0);
        self.free.push(node);
        known
    }

    /// Puts another face of the same id in place of the one at `node`; its `g` is zero until encoded.
    pub fn replace(&mut self, node: NodeId, face: NewFace<'_>) {
        assert_eq!(*self.id(node), face.known.id, "a face is replaced under its own id");
        self.enhanced.row_mut(node).fill(0.0);
        self.put(node, face);
    }

    fn next_node(&mut self) -> NodeId {
        if self.free.is_empty() && self.len() < self.slots() {
            let holes = (0..self.slots() as u32).rev().map(NodeId).filter(|&node| !self.is_live(node));
            self.free = holes.collect();
        }
        let next = || NodeId(u32::try_from(self.known.len()).expect("the engine refuses faces past NodeId's range"));
        self.free.pop().unwrap_or_else(next)
    }

    fn put(&mut self, node: NodeId, NewFace { embedding, known }: NewFace<'_>) {
        if node.index() >= self.slots() {
            let slots = node.index() + 1;
            self.known.resize(slots, None);
            self.embeddings.grow(slots);
            self.enhanced.grow(slots);
        }
        self.embeddings.row_mut(node).copy_from_slice(embedding.values());
        self.nodes.insert(known.id.clone(), node);
        self.known[node.index()] = Some(known);
    }

    /// Whether there is a face at `node`.
    pub fn is_live(&self, node: NodeId) -> bool {
        self.known.get(node.index()).is_some_and(Option::is_some)
    }

    /// The nodes that have a face, in order of node. O(slots).
    pub fn live(&self) -> impl Iterator<Item = NodeId> + Clone + '_ {
        let slots = (0..).map(NodeId).zip(&self.known);
        slots.filter(|(_, known)| known.is_some()).map(|(node, _)| node)
    }

    pub fn node(&self, id: &FaceId) -> Option<NodeId> {
        self.nodes.get(id).copied()
    }

    /// What is known of the face at `node`, which has one.
    pub fn known(&self, node: NodeId) -> &Known {
        self.known[node.index()].as_ref().expect("a face is at this node")
    }

    pub fn id(&self, node: NodeId) -> &FaceId {
        &self.known(node).id
    }

    pub fn arrival(&self, node: NodeId) -> Arrival {
        self.known(node).arrival
    }

    pub fn frame(&self, node: NodeId) -> Option<&FaceId> {
        self.known(node).frame.as_ref()
    }

    pub fn quality(&self, node: NodeId) -> Option<f32> {
        self.known(node).quality
    }

    pub fn time(&self, node: NodeId) -> Timestamp {
        self.known(node).time()
    }

    pub fn embedding(&self, node: NodeId) -> &[f32] {
        self.embeddings.row(node)
    }

    pub fn enhanced(&self, node: NodeId) -> &[f32] {
        self.enhanced.row(node)
    }

    pub fn dimension(&self) -> usize {
        self.embeddings.dimension()
    }

    /// The cosine of two faces' embeddings.
    pub fn similarity(&self, a: NodeId, b: NodeId) -> f32 {
        dot(self.embedding(a), self.embedding(b))
    }
}

/// The dot product, summed in 16 lanes: the compiler turns them into vector registers, and the
/// result depends on nothing but the values. Of two embeddings, it is their cosine.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    for (chunk_a, chunk_b) in whole_a.iter().zip(whole_b) {
        for lane in 0..LANES {
            lanes[lane] += chunk_a[lane] * chunk_b[lane];
        }
    }
    let rest: f32 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{Offset, Partition};

    const WIDTH: usize = 3;

    fn embedding(towards: usize) -> Embedding {
        let values: Vec<f32> = (0..WIDTH).map(|i| if i == towards % WIDTH { 1.0 } else { 0.0 }).collect();
        Embedding::normalise(&values, WIDTH).unwrap()
    }

    fn known(number: u64) -> Known {
        let id = FaceId::new(&format!("{number}")).unwrap();
        Known {
            id,
            arrival: Arrival(number),
            frame: None,
            quality: None,
            captured_at: None,
            arrived_at: Timestamp(0),
            place: Place { partition: Partition(0), offset: Offset(0) },
        }
    }

    fn add(faces: &mut Faces, number: u64) -> NodeId {
        faces.add(NewFace { embedding: &embedding(number as usize), known: known(number) })
    }

    fn add_at(faces: &mut Faces, node: u32, number: u64) {
        faces.add_at(NodeId(node), NewFace { embedding: &embedding(number as usize), known: known(number) });
    }

    #[test]
    fn a_newcomer_takes_the_node_freed_last_else_the_next_new_one() {
        let mut faces = Faces::new(WIDTH);
        let nodes: Vec<u32> = (1..=4).map(|number| add(&mut faces, number).0).collect();
        assert_eq!(nodes, [0, 1, 2, 3]);
        faces.remove(NodeId(0));
        faces.remove(NodeId(2));
        assert_eq!([5, 6, 7].map(|number| add(&mut faces, number).0), [2, 0, 4]);
        assert_eq!((faces.len(), faces.slots()), (5, 5));
    }

    #[test]
    fn nothing_is_left_of_a_removed_face() {
        let mut faces = Faces::new(WIDTH);
        let (first, second) = (add(&mut faces, 1), add(&mut faces, 2));
        faces.enhanced.row_mut(first).fill(0.5);
        assert_eq!(faces.remove(first), known(1));
        assert_eq!(faces.node(&known(1).id), None);
        assert!(!faces.is_live(first));
        assert_eq!((faces.embedding(first), faces.enhanced(first)), (&[0.0; WIDTH][..], &[0.0; WIDTH][..]));
        assert_eq!(faces.live().collect::<Vec<_>>(), [second]);
        assert_eq!((faces.len(), faces.slots()), (1, 2));
    }

    #[test]
    fn a_replaced_face_keeps_its_id_and_node_and_nothing_else() {
        let mut faces = Faces::new(WIDTH);
        let node = add(&mut faces, 1);
        faces.enhanced.row_mut(node).fill(0.5);
        let again = Known { arrival: Arrival(9), quality: Some(0.4), arrived_at: Timestamp(7), ..known(1) };
        faces.replace(node, NewFace { embedding: &embedding(2), known: again.clone() });
        assert_eq!(faces.node(&again.id), Some(node));
        assert_eq!(*faces.known(node), again);
        assert_eq!(faces.embedding(node), embedding(2).values());
        assert_eq!(faces.enhanced(node), [0.0; WIDTH]);
        assert_eq!((faces.len(), faces.slots()), (1, 1));
    }

    #[test]
    fn a_restored_table_fills_its_holes_from_the_lowest_on_whatever_the_order_it_was_put_in() {
        for order in [[1u32, 4, 6], [6, 1, 4], [4, 6, 1]] {
            let mut faces = Faces::new(WIDTH);
            order.into_iter().for_each(|node| add_at(&mut faces, node, u64::from(node)));
            assert_eq!(faces.live().map(|node| node.0).collect::<Vec<_>>(), [1, 4, 6]);
            assert_eq!([10, 11].map(|number| add(&mut faces, number).0), [0, 2]);
            faces.remove(NodeId(6));
            assert_eq!([12, 13, 14, 15].map(|number| add(&mut faces, number).0), [6, 3, 5, 7]);
            assert_eq!((faces.len(), faces.slots()), (8, 8));
        }
    }

    #[test]
    fn a_face_put_into_a_listed_hole_is_never_overwritten() {
        let mut faces = Faces::new(WIDTH);
        for number in 1..=3 {
            add(&mut faces, number);
        }
        faces.remove(NodeId(0));
        faces.remove(NodeId(1));
        add_at(&mut faces, 1, 4);
        assert_eq!([5, 6].map(|number| add(&mut faces, number).0), [0, 3]);
    }

    #[test]
    fn the_dot_product_is_that_of_the_textbook_at_every_width() {
        for width in [1usize, 15, 16, 17, 128, 130] {
            let a: Vec<f32> = (0..width).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..width).map(|i| (i as f32 * 0.91).cos()).collect();
            let expected: f64 = a.iter().zip(&b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            assert!((f64::from(dot(&a, &b)) - expected).abs() < 1e-5, "width {width}");
        }
    }
}
