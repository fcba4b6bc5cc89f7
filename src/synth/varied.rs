//! Many collections beside each other, no two alike: what a model is trained on that is to hold for faces of a kind it
//! never saw.
//!
//! Each is made as `cameras` makes its one, with everything that makes it easy or hard drawn anew from wide ranges: how
//! many faces people have, how near look-alikes and how far apart the poses of one person are, how much faces scatter,
//! how many are bad and what that does, and how much of the space the network that made them uses. A model that is trained
//! on one collection learns how hard that one is; of many it has to tell by the neighbourhood (Tobin et al. 2017,
//! "Domain randomization for transferring deep neural networks").
//!
//! Models are trained on this very stream, which may never change.
//! Cost: that of its collections.

use super::cameras::Setting;
use super::{Labelled, Range, SplitMix64, Synth, normalise};
use crate::progress::{Progress, Tally};

/// Faces of one collection.
const FACES: Range = Range { low: 1_000.0, high: 4_000.0 };
/// How many faces people have in the mean: from hardly anyone seen twice to what cameras see.
const MEAN_SIZES: [f64; 10] = [1.1, 1.3, 1.6, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0, 65.0];
/// Members of the largest family.
const LARGEST_FAMILIES: [usize; 10] = [1, 1, 2, 2, 3, 3, 5, 8, 12, 20];

/// How many networks use every direction alike, and none more than the others.
const EVEN: f64 = 0.6;
/// How much less the others use the last direction than the first: at 8 it is as if there were a third of them.
const DECAY: Range = Range { low: 0.0, high: 8.0 };
/// How far all faces lie to one side, one face's own part having length 1.
const SIDE: Range = Range { low: 0.0, high: 0.6 };

pub(super) fn generate(&Synth { faces, dimension, seed, .. }: &Synth, progress: &mut dyn FnMut(Progress)) -> Labelled {
    let mut tally = Tally::new(faces as u64, progress);
    let mut random = SplitMix64(seed);
    let mut rows: Vec<(u32, Vec<f32>)> = Vec::with_capacity(faces);
    let mut people = 0;
    while rows.len() < faces {
        let size = (random.within(FACES) as usize).min(faces - rows.len());
        let setting = Setting::drawn(dimension, &mut random);
        let network = Network::drawn(dimension, &mut random);
        let collection = network.see(setting.generate(size, dimension, &mut random, &mut || {}));
        let labels = collection.labels.iter().map(|label| people + label);
        rows.extend(labels.zip(collection.embeddings.chunks_exact(dimension).map(<[f32]>::to_vec)));
        people += collection.labels.iter().max().map_or(0, |last| last + 1);
        tally.add(size as u64);
    }
    random.shuffle(&mut rows);
    let (labels, embeddings): (Vec<u32>, Vec<Vec<f32>>) = rows.into_iter().unzip();
    Labelled { embeddings: embeddings.concat(), labels, dimension }
}

/// What the embeddings of a network have in common, whoever they are of: it uses some directions more than others, and
/// all faces lie to one side. Both bring strangers near each other, which in real embeddings they are.
struct Network {
    /// By value of an embedding.
    scale: Vec<f64>,
    offset: Vec<f64>,
}

impl Network {
    fn drawn(dimension: usize, random: &mut SplitMix64) -> Network {
        let uneven = f64::from(random.uniform() >= EVEN);
        let (decay, side) = (uneven * random.within(DECAY), uneven * random.within(SIDE));
        let mut scale: Vec<f64> =
            (0..dimension).map(|value| 1.0 / (1.0 + decay * value as f64 / dimension as f64)).collect();
        let mean_square = scale.iter().map(|scale| scale * scale).sum::<f64>() / dimension as f64;
        scale.iter_mut().for_each(|scale| *scale /= mean_square.sqrt());
        let offset = random.direction(dimension).into_iter().map(|value| side * value).collect();
        Network { scale, offset }
    }

    fn see(&self, mut collection: Labelled) -> Labelled {
        for row in collection.embeddings.chunks_exact_mut(collection.dimension) {
            let places = row.iter().zip(&self.scale).zip(&self.offset);
            let mut seen: Vec<f64> =
                places.map(|((&value, scale), offset)| f64::from(value) * scale + offset).collect();
            normalise(&mut seen);
            row.iter_mut().zip(seen).for_each(|(value, seen)| *value = seen as f32);
        }
        collection
    }
}

impl Setting {
    fn drawn(dimension: usize, random: &mut SplitMix64) -> Setting {
        // The cosine of two faces of one person is about 1 / (1 + scatter²): mostly 0.5 and more, as of good networks.
        let uniform = random.uniform();
        let scatter = 0.35 + 1.45 * uniform * uniform;
        let spread = scatter / (dimension as f64).sqrt().sqrt();
        let mut within = |low, high| random.within(Range { low, high });
        let (nearest, personal) = (within(0.5, 0.9), within(0.1, 0.6));
        let (between, pose_common) = (within(0.0, 0.6), within(0.0, 0.6));
        let (bad_share, bad_drift, bad_spread) = (within(0.0, 0.4), within(0.3, 1.5), within(0.0, 1.0));
        Setting {
            mean_size: MEAN_SIZES[random.below(MEAN_SIZES.len())],
            weight_factors: 4 + random.below(9),
            largest_weight: 30.0,
            largest_family: LARGEST_FAMILIES[random.below(LARGEST_FAMILIES.len())],
            family_share: Range { low: nearest - 0.5, high: nearest },
            poses: 1 + 2 * random.below(4),
            between,
            pose_common,
            pose_personal: Range { low: personal - 0.1, high: personal + 0.2 },
            spread: Range { low: spread, high: 1.6 * spread },
            bad_share,
            bad_ways: 1 + random.below(4),
            bad_drift,
            bad_spread,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::Kind;
    use super::*;

    fn made(faces: usize, dimension: usize, seed: u64) -> Labelled {
        Synth { kind: Kind::Varied, faces, dimension, seed }.generate()
    }

    #[test]
    fn the_stream_never_changes() {
        let made = made(3_000, 64, 7);
        assert_eq!(made.hashes(), (2_493_197_064_473_632_984, 245_980_774_969_290_069));
    }

    #[test]
    fn rows_have_length_one_and_people_numbers_without_gaps() {
        let made = made(40_000, 8, 1);
        assert_eq!((made.labels.len(), made.embeddings.len()), (40_000, 40_000 * 8));
        assert!((0..40_000).all(|face| (made.cosine(face, face) - 1.0).abs() < 1e-5));
        let mut sizes = HashMap::new();
        made.labels.iter().for_each(|&label| *sizes.entry(label).or_insert(0) += 1);
        assert_eq!(sizes.len(), *made.labels.iter().max().unwrap() as usize + 1);
        let alone = sizes.values().filter(|&&size| size == 1).count() as f64 / sizes.len() as f64;
        assert!((0.2..0.8).contains(&alone), "{alone}");
        assert!(sizes.values().any(|&size| size > 150));
    }

    #[test]
    fn collections_differ_in_how_near_a_persons_faces_are() {
        let mut random = SplitMix64(3);
        let mean = |made: Labelled| {
            let own = (0..400).flat_map(|one| (0..one).map(move |other| (one, other)));
            let own = own.filter(|&(one, other)| made.labels[one] == made.labels[other]);
            let cosines: Vec<f32> = own.map(|(one, other)| made.cosine(one, other)).collect();
            cosines.iter().sum::<f32>() / cosines.len().max(1) as f32
        };
        let means: Vec<f32> =
            (0..20).map(|_| mean(Setting::drawn(64, &mut random).generate(400, 64, &mut random, &mut || {}))).collect();
        let (least, most) = means.iter().fold((1.0f32, 0.0f32), |(low, high), &mean| (low.min(mean), high.max(mean)));
        assert!(least < 0.4 && most > 0.6, "{means:?}");
    }

    #[test]
    fn nothing_and_little_can_be_asked_for() {
        assert!(made(0, 128, 1).labels.is_empty());
        assert_eq!(made(1, 128, 1).labels, [0]);
        assert_ne!(made(30, 128, 1), made(30, 128, 2));
    }
}
