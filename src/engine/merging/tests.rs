use proptest::prelude::*;

use super::*;

/// Of a weight in thousandths, which thresholds in thousandths meet exactly only now and then.
fn weight(thousandths: u64) -> Weight {
    Weight((Weight::ONE.0 * thousandths).div_ceil(1000))
}

fn face() -> Item {
    Item { size: 1, weak: false, held: None }
}

fn pair(a: u32, b: u32, thousandths: u64) -> Pair {
    Pair { a, b, weight: weight(thousandths), count: 1 }
}

fn faces(count: usize, pairs: Vec<Pair>) -> Component {
    Component { items: vec![face(); count], pairs, ..Component::default() }
}

const SINGLE: Merging = Merging { rule: Rule::Single, threshold: 0.5, threshold_off: 0.5 };
const EVIDENCE: Merging =
    Merging { rule: Rule::Evidence { per_face: 2, cap: 16 }, threshold: 0.25, threshold_off: 0.25 };

#[test]
fn a_weight_is_the_mean_or_the_larger_of_two_directions() {
    let (low, high) = (Some(Probability::of(0.25)), Some(Probability::of(0.75)));
    assert_eq!(EVIDENCE.weight(low, high), Weight::of(0.5));
    assert_eq!(EVIDENCE.weight(None, high), Weight::of(0.375));
    assert_eq!(EVIDENCE.weight(Some(Probability::of(1.0)), Some(Probability::of(1.0))), Weight::ONE);
    assert_eq!(SINGLE.weight(high, low), Weight::of(0.75));
    assert_eq!(SINGLE.weight(None, low), Weight::of(0.25));
    assert_eq!(SINGLE.weight(None, None), Weight::ZERO);
    assert_eq!([Probability::of(-1.0), Probability::of(f32::NAN)], [Probability::of(0.0); 2]);
    assert_eq!(Probability::of(7.0), Probability::of(1.0));
}

#[test]
fn one_false_link_joins_two_people_under_single_but_not_under_evidence() {
    let person = |first: u32| {
        let of = move |a: u32| (a + 1..4).map(move |b| pair(first + a, first + b, 900));
        (0..4).flat_map(of)
    };
    let pairs = person(0).chain(person(4)).chain([pair(3, 4, 950)]);
    let component = faces(8, pairs.collect());
    assert_eq!(cluster(&component, &SINGLE).labels, [0; 8]);
    // The false link is the strongest, so it would be the first to merge two lone faces.
    let mut merging = EVIDENCE;
    assert_eq!(cluster(&component, &merging).labels, [0; 8]);
    merging.threshold = 0.4;
    let mut weaker = component.clone();
    weaker.pairs.last_mut().unwrap().weight = weight(850);
    assert_eq!(cluster(&weaker, &merging).labels, [0, 0, 0, 0, 4, 4, 4, 4]);
}

#[test]
fn a_weak_face_joins_but_does_not_bridge() {
    let mut component = faces(3, vec![pair(0, 1, 800), pair(1, 2, 900)]);
    component.items[1].weak = true;
    for merging in [SINGLE, EVIDENCE] {
        assert_eq!(cluster(&component, &merging).labels, [0, 1, 1]);
    }
    component.must = vec![Together { a: 1, b: 0 }];
    for merging in [SINGLE, EVIDENCE] {
        assert_eq!(cluster(&component, &merging).labels, [0; 3], "a face that must be somewhere is not weak");
    }
}

#[test]
fn hysteresis_keeps_what_is_together_and_says_so() {
    let mut component = faces(3, vec![pair(0, 1, 450), pair(1, 2, 450)]);
    let single = Merging { threshold_off: 0.4, ..SINGLE };
    let evidence = Merging { threshold_off: 0.2, ..EVIDENCE };
    for merging in [single, evidence] {
        assert_eq!(cluster(&component, &merging), Clustering { labels: vec![0, 1, 2], held: false });
    }
    component.items[0].held = Some(7);
    component.items[1].held = Some(7);
    component.items[2].held = Some(8);
    for merging in [single, evidence] {
        assert_eq!(cluster(&component, &merging), Clustering { labels: vec![0, 0, 2], held: true });
    }
}

/// The rules as DESIGN.md and the comments say them, recomputing everything at every step.
mod by_the_book {
    use super::super::*;

    /// Clusters are sorted lists of items, and sorted by their smallest.
    type Clusters = Vec<Vec<u32>>;

    struct Book<'a> {
        component: &'a Component,
        merging: &'a Merging,
    }

    /// A merge that is allowed: numerator and divisor of its evidence, and the two ranks.
    #[derive(Clone, Copy)]
    struct Merge {
        weight: u128,
        divisor: u128,
        ranks: (u32, u32),
        held: bool,
    }

    impl Merge {
        fn goes_before(&self, other: &Merge) -> bool {
            let (this, that) = (self.weight * other.divisor, other.weight * self.divisor);
            this > that || this == that && self.ranks < other.ranks
        }
    }

    pub fn cluster(component: &Component, merging: &Merging) -> Clustering {
        let book = Book { component, merging };
        let items = 0..component.items.len() as u32;
        let mut must: Vec<(u32, u32)> = component.must.iter().map(|t| (t.a.min(t.b), t.a.max(t.b))).collect();
        must.sort();
        let is_weak =
            |item: u32| component.items[item as usize].weak && must.iter().all(|&(a, b)| a != item && b != item);
        let mut clusters: Clusters = items.clone().map(|item| vec![item]).collect();
        for &(a, b) in &must {
            let of = |item: u32| clusters.iter().position(|cluster| cluster.contains(&item)).unwrap();
            let (a, b) = (of(a), of(b));
            if a != b && !book.apart(&clusters[a], &clusters[b]) {
                unite(&mut clusters, a, b);
            }
        }

        let mut held = false;
        let (mut strong, left): (Clusters, Clusters) = clusters.into_iter().partition(|cluster| !is_weak(cluster[0]));
        held |= book.run(&mut strong);

        let after_pass_1 = strong.clone();
        let mut left: Vec<u32> = left.into_iter().flatten().collect();
        let mut offers = Vec::new();
        for &item in &left {
            for (place, cluster) in after_pass_1.iter().enumerate() {
                offers.extend(book.merge(&[item], cluster, Some((item, cluster[0]))).map(|merge| (merge, item, place)));
            }
        }
        while !offers.is_empty() {
            let best = (0..offers.len()).reduce(|a, b| if offers[b].0.goes_before(&offers[a].0) { b } else { a });
            let (merge, item, place) = offers.remove(best.unwrap());
            if left.contains(&item) && !book.apart(&[item], &strong[place]) {
                strong[place].push(item);
                left.retain(|&other| other != item);
                held |= merge.held;
            }
        }

        let mut weak: Clusters = left.into_iter().map(|item| vec![item]).collect();
        held |= book.run(&mut weak);
        let mut labels = vec![0; items.len()];
        for cluster in strong.iter().chain(&weak) {
            for &item in cluster {
                labels[item as usize] = *cluster.iter().min().unwrap();
            }
        }
        Clustering { labels, held }
    }

    fn unite(clusters: &mut Clusters, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        let other = clusters.remove(b);
        clusters[a].extend(other);
        clusters[a].sort();
        clusters.sort();
    }

    impl Book<'_> {
        /// Merges until nothing is above its threshold.
        fn run(&self, clusters: &mut Clusters) -> bool {
            let mut held = false;
            loop {
                let mut best: Option<(Merge, usize, usize)> = None;
                for a in 0..clusters.len() {
                    for b in a + 1..clusters.len() {
                        if self.apart(&clusters[a], &clusters[b]) {
                            continue;
                        }
                        // Links are by item, evidence is by cluster.
                        let ranks = match self.merging.rule {
                            Rule::Single => None,
                            Rule::Evidence { .. } => Some((clusters[a][0], clusters[b][0])),
                        };
                        if let Some(merge) = self.merge(&clusters[a], &clusters[b], ranks)
                            && best.is_none_or(|(best, ..)| merge.goes_before(&best))
                        {
                            best = Some((merge, a, b));
                        }
                    }
                }
                let Some((merge, a, b)) = best else { return held };
                held |= merge.held;
                unite(clusters, a, b);
            }
        }

        fn apart(&self, a: &[u32], b: &[u32]) -> bool {
            let groups = &self.component.apart;
            groups.iter().any(|group| a.iter().any(|x| group.contains(x)) && b.iter().any(|x| group.contains(x)))
        }

        /// What is between two clusters, when it is above their threshold. Without `ranks`, those of the items.
        fn merge(&self, a: &[u32], b: &[u32], ranks: Option<(u32, u32)>) -> Option<Merge> {
            let between = self.component.pairs.iter().filter(|pair| {
                a.contains(&pair.a) && b.contains(&pair.b) || a.contains(&pair.b) && b.contains(&pair.a)
            });
            let item = |item: u32| self.component.items[item as usize];
            let on = u128::from(Weight::of(self.merging.threshold).0);
            let off = u128::from(Weight::of(self.merging.threshold_off).0);
            match self.merging.rule {
                Rule::Single => {
                    let links = between.filter(|pair| {
                        let held = item(pair.a).held.is_some() && item(pair.a).held == item(pair.b).held;
                        u128::from(pair.weight.0) > if held { off } else { on }
                    });
                    let link = |pair: &Pair| Merge {
                        weight: pair.weight.0.into(),
                        divisor: 1,
                        ranks: ranks.unwrap_or((pair.a.min(pair.b), pair.a.max(pair.b))),
                        held: u128::from(pair.weight.0) <= on,
                    };
                    links.map(link).reduce(|best, next| if next.goes_before(&best) { next } else { best })
                }
                Rule::Evidence { per_face, cap } => {
                    let (weight, count) = between.fold((0, 0), |(weight, count), pair| {
                        (weight + u128::from(pair.weight.0), count + u128::from(pair.count))
                    });
                    let size = |cluster: &[u32]| cluster.iter().map(|&x| u128::from(item(x).size)).sum::<u128>();
                    let divisor = count.max(u128::from(cap).min(u128::from(per_face) * size(a).min(size(b))));
                    let now = item(a[0]).held;
                    let held = now.is_some() && a.iter().chain(b).all(|&x| item(x).held == now);
                    let above = weight > if held { off } else { on } * divisor;
                    let ranks = ranks.expect("evidence is between clusters");
                    above.then_some(Merge { weight, divisor, ranks, held: weight <= on * divisor })
                }
            }
        }
    }
}

/// What of a component is drawn.
#[derive(Debug, Clone, Copy)]
struct Kind {
    weak: bool,
    held: bool,
    must: bool,
    apart: bool,
    blocks: bool,
}

const PLAIN: Kind = Kind { weak: false, held: false, must: false, apart: false, blocks: false };
const ALL: Kind = Kind { weak: true, held: true, must: true, apart: true, blocks: true };

fn any_kind() -> impl Strategy<Value = Kind> {
    any::<[bool; 5]>().prop_map(|[weak, held, must, apart, blocks]| Kind { weak, held, must, apart, blocks })
}

/// Few different weights, so that ties are many.
fn any_weight() -> impl Strategy<Value = u64> {
    prop_oneof![4 => (0u64..=8).prop_map(|eighth| eighth * 125), 1 => 0u64..=1000]
}

fn any_component(kind: Kind) -> impl Strategy<Value = Component> {
    (1usize..14).prop_flat_map(move |count| {
        let item = (1u32..5, 0u8..4, prop_oneof![2 => Just(None), 3 => (0u64..3).prop_map(Some)]);
        let item = item.prop_map(move |(size, weak, held)| Item {
            size: if kind.blocks { size } else { 1 },
            weak: kind.weak && weak == 0,
            held: held.filter(|_| kind.held),
        });
        let edge = (any::<bool>(), any::<bool>(), any_weight(), 1u32..4);
        let two = proptest::collection::vec(0..count as u32, 2);
        let group = proptest::collection::vec(0..count as u32, 0..4);
        (
            proptest::collection::vec(item, count),
            proptest::collection::vec(edge, count * (count - 1) / 2),
            proptest::collection::vec(two, 0..if kind.must { 4 } else { 1 }),
            proptest::collection::vec(group, 0..if kind.apart { 6 } else { 1 }),
        )
            .prop_map(move |(items, edges, must, apart)| {
                let two = (0..count as u32).flat_map(|b| (0..b).map(move |a| (a, b)));
                let pairs = two.zip(edges).filter(|(_, (there, ..))| *there);
                let pairs = pairs.map(|((a, b), (_, swapped, thousandths, count))| {
                    let count = if kind.blocks { count } else { 1 };
                    let (a, b) = if swapped { (b, a) } else { (a, b) };
                    Pair { a, b, weight: Weight(weight(thousandths).0 * u64::from(count)), count }
                });
                let must = must.iter().map(|two| Together { a: two[0], b: two[1] }).filter(|two| two.a != two.b);
                Component { items, pairs: pairs.collect(), must: must.collect(), apart }
            })
    })
}

fn any_merging() -> impl Strategy<Value = Merging> {
    let evidence = (1u32..4, 1u32..8).prop_map(|(per_face, cap)| Rule::Evidence { per_face, cap });
    let rule = prop_oneof![1 => Just(Rule::Single), 3 => evidence];
    let eighth = |eighth: u8| f32::from(eighth) / 8.0;
    (rule, 0u8..6, 0u8..6).prop_map(move |(rule, one, other)| Merging {
        rule,
        threshold: eighth(one.max(other)),
        threshold_off: eighth(one.min(other)),
    })
}

/// `component` with its pairs in another order and turned round.
fn shuffled(component: &Component) -> impl Strategy<Value = Component> + use<> {
    let component = component.clone();
    let turned = proptest::collection::vec(any::<bool>(), component.pairs.len());
    (Just(component.pairs.clone()).prop_shuffle(), turned).prop_map(move |(mut pairs, turned)| {
        for (pair, turned) in pairs.iter_mut().zip(turned) {
            if turned {
                (pair.a, pair.b) = (pair.b, pair.a);
            }
        }
        let mut component = component.clone();
        component.pairs = pairs;
        component.must.reverse();
        component.apart.reverse();
        component
    })
}

/// Whether any two of `items` have the same label.
fn are_together(labels: &[u32], items: &[u32]) -> bool {
    let mut of: Vec<u32> = items.to_vec();
    of.sort_unstable();
    of.dedup();
    let mut labels: Vec<u32> = of.iter().map(|&item| labels[item as usize]).collect();
    labels.sort_unstable();
    labels.windows(2).any(|two| two[0] == two[1])
}

/// By spreading the smallest number along the links, until nothing changes.
fn connected_components(component: &Component, threshold: Weight) -> Vec<u32> {
    let mut labels: Vec<u32> = (0..component.items.len() as u32).collect();
    loop {
        let before = labels.clone();
        for pair in component.pairs.iter().filter(|pair| pair.weight > threshold) {
            let smaller = labels[pair.a as usize].min(labels[pair.b as usize]);
            (labels[pair.a as usize], labels[pair.b as usize]) = (smaller, smaller);
        }
        if labels == before {
            return labels;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_does_what_the_book_says(
        (component, merging) in any_kind().prop_flat_map(|kind| (any_component(kind), any_merging()))
    ) {
        prop_assert_eq!(cluster(&component, &merging), by_the_book::cluster(&component, &merging));
    }

    #[test]
    fn without_constraints_it_does_what_the_book_says(component in any_component(PLAIN), merging in any_merging()) {
        prop_assert_eq!(cluster(&component, &merging), by_the_book::cluster(&component, &merging));
    }
}

proptest! {
    #[test]
    fn the_order_of_pairs_does_not_count(
        (component, shuffled) in any_component(ALL).prop_flat_map(|c| (Just(c.clone()), shuffled(&c))),
        merging in any_merging(),
    ) {
        prop_assert_eq!(cluster(&component, &merging), cluster(&shuffled, &merging));
    }

    #[test]
    fn what_is_apart_is_never_together(component in any_component(ALL), merging in any_merging()) {
        let labels = cluster(&component, &merging).labels;
        for group in &component.apart {
            prop_assert!(!are_together(&labels, group), "{group:?} in {labels:?}");
        }
    }

    #[test]
    fn what_must_be_is_together_unless_something_is_apart(
        component in any_component(Kind { apart: false, ..ALL }), merging in any_merging()
    ) {
        let labels = cluster(&component, &merging).labels;
        for two in &component.must {
            prop_assert_eq!(labels[two.a as usize], labels[two.b as usize]);
        }
    }

    #[test]
    fn without_constraints_single_is_the_components_of_links(
        component in any_component(PLAIN), eighth in 0u8..8
    ) {
        let threshold = f32::from(eighth) / 8.0;
        let merging = Merging { rule: Rule::Single, threshold, threshold_off: threshold };
        let expected = connected_components(&component, Weight::of(threshold));
        prop_assert_eq!(cluster(&component, &merging).labels, expected);
    }

    #[test]
    fn components_do_not_touch_each_other(
        one in any_component(ALL), other in any_component(ALL), merging in any_merging()
    ) {
        let by = one.items.len() as u32;
        let mut both = one.clone();
        both.items.extend(&other.items);
        both.pairs.extend(other.pairs.iter().map(|pair| Pair { a: pair.a + by, b: pair.b + by, ..*pair }));
        both.must.extend(other.must.iter().map(|two| Together { a: two.a + by, b: two.b + by }));
        both.apart.extend(other.apart.iter().map(|group| group.iter().map(|item| item + by).collect()));
        let (one, other) = (cluster(&one, &merging), cluster(&other, &merging));
        let labels = one.labels.iter().copied().chain(other.labels.iter().map(|label| label + by));
        let expected = Clustering { labels: labels.collect(), held: one.held || other.held };
        prop_assert_eq!(cluster(&both, &merging), expected);
    }

    #[test]
    fn hysteresis_needs_someone_held(
        component in any_component(Kind { held: false, ..ALL }), merging in any_merging()
    ) {
        let without = Merging { threshold_off: merging.threshold, ..merging };
        let clustering = cluster(&component, &merging);
        prop_assert_eq!(&clustering, &cluster(&component, &without));
        prop_assert!(!clustering.held);
    }

    #[test]
    fn hysteresis_needs_a_lower_threshold(component in any_component(ALL), merging in any_merging()) {
        let merging = Merging { threshold_off: merging.threshold, ..merging };
        let mut released = component.clone();
        released.items.iter_mut().for_each(|item| item.held = None);
        let clustering = cluster(&component, &merging);
        prop_assert_eq!(&clustering, &cluster(&released, &merging));
        prop_assert!(!clustering.held);
    }

    #[test]
    fn clusters_that_hold_their_faces_stay_as_they_are(
        mut component in any_component(ALL), merging in any_merging()
    ) {
        component.items.iter_mut().for_each(|item| item.held = None);
        let first = cluster(&component, &merging);
        for (item, &label) in component.items.iter_mut().zip(&first.labels) {
            item.held = Some(u64::from(label) + 100);
        }
        prop_assert_eq!(cluster(&component, &merging), first);
    }
}
