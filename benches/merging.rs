//! What it costs to cluster one component again, by its size and by rule.
//!
//! A component is made like a face graph: people of heavy-tailed size, 16 candidates a face, first its
//! own person's, then faces of a few people who look alike, most of them unlikely; a few false links,
//! which connect all. The faces are numbered in no order. Read ns per pair: it should grow as a logarithm does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use facetd::engine::merging::{Clustering, Component, Item, Pair, Probability, cluster};
use facetd::model::artefact::{Merging, Rule};

const SIZES: [usize; 4] = [100, 1_000, 10_000, 100_000];
const CANDIDATES: usize = 16;
/// Those of a face's candidates that are its own person's, if that has so many.
const OWN: usize = 11;
/// People who look like a person, and whose faces fill up the candidates.
const ALIKE: usize = 8;
const LARGEST_PERSON: f64 = 3_000.0;
const RUNS: usize = 5;
const SEED: u64 = 21;

fn main() {
    let single = Merging { rule: Rule::Single, threshold: 0.34, threshold_off: 0.3 };
    let evidence = Merging { rule: Rule::Evidence { per_face: 3, cap: 16 }, threshold: 0.2, threshold_off: 0.18 };
    println!("rule        faces      pairs   clusters   median ms   ns per pair");
    for (name, merging) in [("single", single), ("evidence", evidence)] {
        for faces in SIZES {
            let component = component(faces, &merging);
            let mut clustering = Clustering::default();
            let mut times: Vec<Duration> = (0..RUNS)
                .map(|_| {
                    let start = Instant::now();
                    clustering = cluster(&component, &merging);
                    start.elapsed()
                })
                .collect();
            times.sort_unstable();
            let median = times[RUNS / 2];
            let pairs = component.pairs.len();
            let clusters = (0u32..).zip(&clustering.labels).filter(|(item, label)| item == *label).count();
            println!(
                "{name:<8} {faces:>8}   {pairs:>8}   {clusters:>8}   {:>9.3}   {:>11.0}",
                median.as_secs_f64() * 1e3,
                median.as_nanos() as f64 / pairs as f64
            );
        }
    }
}

fn component(faces: usize, merging: &Merging) -> Component {
    let mut chance = Chance(SEED);
    let mut numbers: Vec<u32> = (0..faces as u32).collect();
    for last in (1..faces).rev() {
        numbers.swap(last, chance.below(last + 1));
    }
    let people = people(&mut numbers, &mut chance);

    // The linkages by who scored whom, then by pair.
    let mut directions: BTreeMap<(u32, u32), [Option<Probability>; 2]> = BTreeMap::new();
    let mut score = |scorer: u32, candidate: u32, linkage: f64| {
        let pair = (scorer.min(candidate), scorer.max(candidate));
        let direction = usize::from(scorer > candidate);
        directions.entry(pair).or_default()[direction].get_or_insert(Probability::of(linkage as f32));
    };
    for (number, person) in people.iter().enumerate() {
        for (place, &face) in person.iter().enumerate() {
            let own = OWN.min(person.len() - 1);
            for step in 1..=own {
                // Half of them nearby in the person's own order (the same pose), half anywhere.
                let far = if step % 2 == 0 { chance.below(person.len()) } else { step };
                let other = person[(place + far) % person.len()];
                if other != face {
                    let sure = step == 1 || chance.happens(0.8);
                    score(face, other, if sure { chance.between(0.6, 1.0) } else { chance.between(0.0, 0.6) });
                }
            }
            for _ in own..CANDIDATES {
                let alike = &people[(number + 1 + chance.below(ALIKE)) % people.len()];
                let other = alike[chance.below(alike.len())];
                if other != face {
                    let confused = chance.happens(0.02);
                    score(face, other, if confused { chance.between(0.3, 0.9) } else { chance.between(0.0, 0.15) });
                }
            }
        }
    }
    // One component: a link from person to person.
    for two in people.windows(2) {
        let pair = (two[0][0].min(two[1][0]), two[0][0].max(two[1][0]));
        directions.insert(pair, [Some(Probability::of(0.9)); 2]);
    }
    let pairs = directions.into_iter().map(|((a, b), [outward, inward])| Pair {
        a,
        b,
        weight: merging.weight(outward, inward),
        count: 1,
    });
    Component {
        items: vec![Item { size: 1, weak: false, held: None }; faces],
        pairs: pairs.collect(),
        ..Component::default()
    }
}

/// The faces of each person; sizes fall as a power law does.
fn people<'a>(mut faces: &'a mut [u32], chance: &mut Chance) -> Vec<&'a [u32]> {
    let mut people: Vec<&[u32]> = Vec::new();
    while !faces.is_empty() {
        let size = (1.0 - chance.unit()).powf(-1.0).min(LARGEST_PERSON) as usize;
        let (person, others) = faces.split_at_mut(size.min(faces.len()));
        people.push(person);
        faces = others;
    }
    people
}

/// SplitMix64: the same component in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}
