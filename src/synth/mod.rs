//! Face-like labelled embeddings, for demos, tests and training without anybody's face.
//!
//! `albums` makes what a photograph album holds, `cameras` what cameras see; both are one person's faces
//! scattered around a direction of their own, and differ in what brings strangers together and tears people apart.
//! `varied` holds many collections like the latter, no two as easy: what models are trained on.
//!
//! The same input gives the same bits on every machine: the generator is SplitMix64, and of the
//! functions that are not exact in IEEE 754 (powers, logarithms, sines) none is used.
//! Cost: about `faces * dimension` normal numbers.

mod albums;
mod cameras;
mod varied;

use crate::progress::Progress;

/// What kind of collection the faces are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Many people, most of them once.
    Albums,
    /// Fewer people, seen some 65 times each, among look-alikes and bad pictures.
    Cameras,
    /// Many collections of as many kinds in one, to train on.
    Varied,
}

/// What to make. The same values give the same faces, on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synth {
    pub kind: Kind,
    pub faces: usize,
    /// The width of an embedding, at least 2; below 64 or so strangers are too near to be told apart.
    pub dimension: usize,
    pub seed: u64,
}

/// Embeddings and whose they are, in an order of arrival that mixes all people.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// `labels.len()` rows of `dimension` values, each row of length 1.
    pub embeddings: Vec<f32>,
    /// The person of each row: dense numbers from 0.
    pub labels: Vec<u32>,
    pub dimension: usize,
}

impl Synth {
    pub fn generate(&self) -> Labelled {
        self.generate_watched(&mut |_| ())
    }

    /// As [`Synth::generate`], for somebody who waits.
    pub fn generate_watched(&self, progress: &mut dyn FnMut(Progress)) -> Labelled {
        match self.kind {
            Kind::Albums => albums::generate(self, progress),
            Kind::Cameras => cameras::generate(self, progress),
            Kind::Varied => varied::generate(self, progress),
        }
    }
}

fn normalise(vector: &mut [f64]) {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
}

#[derive(Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014). Here and not
/// from a crate because models are trained on this very stream, which may never change.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In 0..1, 1 not included.
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn within(&mut self, range: Range) -> f64 {
        range.low + (range.high - range.low) * self.uniform()
    }

    /// In 0..bound.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Mean 0, variance 1, normal but for its far tails: the sum of eight uniform 16-bit numbers.
    fn normal(&mut self) -> f64 {
        let lanes = |word: u64| (0..4).map(|lane| (word >> (16 * lane)) & 0xffff).sum::<u64>();
        let sum = lanes(self.next()) + lanes(self.next());
        let (mean, variance) = (8.0 * 32_767.5, 8.0 * (65_536.0 * 65_536.0 - 1.0) / 12.0f64);
        (sum as f64 - mean) / variance.sqrt()
    }

    /// A uniformly drawn vector of length 1.
    fn direction(&mut self, dimension: usize) -> Vec<f64> {
        let mut direction: Vec<f64> = (0..dimension).map(|_| self.normal()).collect();
        normalise(&mut direction);
        direction
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
impl Labelled {
    /// Of the labels and of the embeddings' bits: what is made may never change.
    fn hashes(&self) -> (u64, u64) {
        let mix = |hash: u64, word: u32| (hash ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3);
        let labels = self.labels.iter().fold(0, |hash, &label| mix(hash, label));
        let embeddings = self.embeddings.iter().fold(0, |hash, value| mix(hash, value.to_bits()));
        (labels, embeddings)
    }

    fn cosine(&self, one: usize, other: usize) -> f32 {
        let row = |face: usize| &self.embeddings[face * self.dimension..(face + 1) * self.dimension];
        row(one).iter().zip(row(other)).map(|(a, b)| a * b).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::came_to_its_end;

    #[test]
    fn who_waits_is_told_how_far_it_is_and_gets_the_same() {
        for kind in [Kind::Albums, Kind::Cameras, Kind::Varied] {
            let synth = Synth { kind, faces: 20_000, dimension: 2, seed: 1 };
            let mut told = Vec::new();
            let made = synth.generate_watched(&mut |progress| told.push(progress));
            assert!(came_to_its_end(&told), "{kind:?}: {} times, at last {:?}", told.len(), told.last());
            assert_eq!(made, synth.generate());
        }
    }
}
