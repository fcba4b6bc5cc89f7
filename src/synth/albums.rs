//! Photograph albums: many people, most of them once.
//!
//! A person is a random direction; some are look-alikes of an earlier person. How many faces a person
//! has comes from a heavy tail, as in LFW: about 70 % have one, the largest hundreds. A person's faces
//! lie along an arc of their own (age, pose), so the two ends of it may meet only through the middle,
//! and scatter around it, some people's more than others'. A face of low quality scatters more and drifts
//! towards one direction common to all bad pictures, which brings strangers together. So no single
//! threshold on the cosine is right for everybody, while the neighbourhood of a face tells what is.
//!
//! A demo model is trained on this very stream, which may never change.

use super::{Labelled, Range, SplitMix64, Synth, normalise};
use crate::progress::{Progress, Tally};

/// How often a person is the look-alike of an earlier one.
const LOOK_ALIKES: f64 = 0.4;
/// The cosine between a person and their look-alike: uniform in this range.
const LOOK_ALIKE_COSINE: Range = Range { low: 0.5, high: 0.8 };
/// The length of the scatter of a person's faces, the person's own direction having length 1.
const SPREAD: Range = Range { low: 0.5, high: 1.15 };
/// Half the length of the arc of a person's faces.
const ARC: Range = Range { low: 0.2, high: 0.8 };
/// How much more the worst picture scatters than the best.
const BAD_SPREAD: f64 = 0.8;
/// How far the worst picture drifts towards the direction of all bad pictures.
const BAD_DRIFT: f64 = 1.1;
/// The direction of bad pictures belongs to the network that makes embeddings, not to a data set: it has a seed of its own.
const NETWORK_SEED: u64 = 0x000f_ace5;

pub(super) fn generate(&Synth { faces, dimension, seed, .. }: &Synth, progress: &mut dyn FnMut(Progress)) -> Labelled {
    let mut random = SplitMix64(seed);
    let mut labels = labels(faces, &mut random);
    let count = labels.last().map_or(0, |&last| last as usize + 1);
    // A person takes about as long as a face.
    let mut tally = Tally::new((count + faces) as u64, progress);
    let people = people(count, dimension, &mut random, &mut tally);
    random.shuffle(&mut labels);

    let bad = SplitMix64(NETWORK_SEED).direction(dimension);
    let mut embeddings = Vec::with_capacity(faces * dimension);
    for &label in &labels {
        embeddings.extend(people[label as usize].face(&bad, &mut random).into_iter().map(|value| value as f32));
        tally.add(1);
    }
    Labelled { embeddings, labels, dimension }
}

/// One label a face, ascending, the numbers of faces a person drawn from `P(size >= k) = k^(-16/9)`:
/// 71 % of the people have one face, and the largest of `n` people has about `n^(9/16)`.
fn labels(faces: usize, random: &mut SplitMix64) -> Vec<u32> {
    let largest = (faces / 25).max(1);
    let mut labels = Vec::with_capacity(faces);
    for label in 0.. {
        if labels.len() == faces {
            break;
        }
        let uniform = 1.0 - random.uniform();
        // uniform^(-9/16), by square roots because those are exact.
        let size = (uniform.sqrt() * uniform.sqrt().sqrt().sqrt().sqrt()).recip() as usize;
        let left = faces - labels.len();
        labels.extend(std::iter::repeat_n(label, size.min(largest).min(left)));
    }
    labels
}

struct Person {
    direction: Vec<f64>,
    /// Where the ends of the arc lie, seen from the middle; its length is half the arc's.
    arc: Vec<f64>,
    spread: f64,
}

fn people(count: usize, dimension: usize, random: &mut SplitMix64, tally: &mut Tally) -> Vec<Person> {
    let mut people: Vec<Person> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut direction = random.direction(dimension);
        if !people.is_empty() && random.uniform() < LOOK_ALIKES {
            let elder = &people[random.below(people.len())];
            let cosine = random.within(LOOK_ALIKE_COSINE);
            let sine = (1.0 - cosine * cosine).sqrt();
            direction.iter_mut().zip(&elder.direction).for_each(|(own, elder)| *own = sine * *own + cosine * elder);
            normalise(&mut direction);
        }
        let half = random.within(ARC);
        let arc = random.direction(dimension).into_iter().map(|value| value * half).collect();
        people.push(Person { direction, arc, spread: random.within(SPREAD) });
        tally.add(1);
    }
    people
}

impl Person {
    /// One more face of this person.
    fn face(&self, bad: &[f64], random: &mut SplitMix64) -> Vec<f64> {
        // Most pictures are good: the cube of a uniform number is mostly near 0.
        let badness = random.uniform();
        let badness = badness * badness * badness;
        let place_on_arc = random.within(Range { low: -1.0, high: 1.0 });
        let spread = self.spread * (1.0 + BAD_SPREAD * badness) / (bad.len() as f64).sqrt();

        let mut face: Vec<f64> = (self.direction.iter().zip(&self.arc).zip(bad))
            .map(|((direction, arc), bad)| {
                direction + place_on_arc * arc + badness * BAD_DRIFT * bad + spread * random.normal()
            })
            .collect();
        normalise(&mut face);
        face
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Kind;
    use super::*;

    fn made(faces: usize, seed: u64) -> Labelled {
        Synth { kind: Kind::Albums, faces, dimension: 128, seed }.generate()
    }

    #[test]
    fn the_stream_never_changes() {
        let made = Synth { kind: Kind::Albums, faces: 1_000, dimension: 64, seed: 7 }.generate();
        assert_eq!(made.hashes(), (4_431_466_303_659_551_432, 7_981_926_315_924_589_362));
    }

    #[test]
    fn every_row_has_length_one() {
        let made = made(500, 1);
        assert_eq!(made.embeddings.len(), 500 * 128);
        assert!((0..500).all(|face| (made.cosine(face, face) - 1.0).abs() < 1e-5));
    }

    #[test]
    fn most_people_have_one_face_and_a_few_have_many() {
        let mut sizes = HashMap::new();
        let made = Synth { kind: Kind::Albums, faces: 20_000, dimension: 2, seed: 1 }.generate();
        made.labels.iter().for_each(|&label| *sizes.entry(label).or_insert(0) += 1);
        let alone = sizes.values().filter(|&&size| size == 1).count() as f64 / sizes.len() as f64;
        assert!((0.68..0.74).contains(&alone), "{alone}");
        assert!(sizes.values().any(|&size| size > 50));
        assert!(sizes.values().all(|&size| size <= 20_000 / 25));
    }

    #[test]
    fn people_are_nearer_to_themselves_than_to_strangers_but_not_always() {
        let made = made(1_500, 2);
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for one in 0..1_500 {
            for other in 0..one {
                let group = if made.labels[one] == made.labels[other] { &mut own } else { &mut others };
                group.push(made.cosine(one, other));
            }
        }
        own.sort_by(f32::total_cmp);
        others.sort_by(f32::total_cmp);
        assert!(own[own.len() / 2] > others[others.len() * 999 / 1_000]);
        assert!(own[own.len() / 10] < others[others.len() - 1], "a threshold would do");
    }

    #[test]
    fn nothing_and_little_can_be_asked_for() {
        assert!(made(0, 1).labels.is_empty());
        assert_eq!(made(1, 1).labels, [0]);
        assert_ne!(made(30, 1), made(30, 2));
    }
}
