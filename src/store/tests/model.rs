//! Whatever is committed, compacted and opened again, in whatever order: the store holds what a
//! plain map would.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    /// To the first free node.
    Arrive,
    /// The nth face there is.
    Erase(usize),
    /// The nth face goes and another comes to its node, in one commit.
    Supersede(usize),
    Compact,
    Reopen,
    CompactAll,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => Just(Action::Arrive),
        3 => any::<usize>().prop_map(Action::Erase),
        3 => any::<usize>().prop_map(Action::Supersede),
        1 => Just(Action::Compact),
        1 => Just(Action::Reopen),
        1 => Just(Action::CompactAll),
    ]
}

/// The face at the nth node that has one, counted round.
fn nth(expected: &BTreeMap<u32, u64>, n: usize) -> Option<(u32, u64)> {
    let place = n.checked_rem(expected.len())?;
    expected.iter().nth(place).map(|(&node, &number)| (node, number))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_store_is_a_map_that_lasts(actions in prop::collection::vec(action(), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        let mut expected: BTreeMap<u32, u64> = BTreeMap::new();
        let mut last = 0;
        for action in actions {
            match action {
                Action::Arrive => {
                    last += 1;
                    let node = (0..).find(|node| !expected.contains_key(node)).unwrap();
                    store.commit(&commit_of(arrives(last, node))).unwrap();
                    expected.insert(node, last);
                }
                Action::Erase(n) => {
                    let Some((node, number)) = nth(&expected, n) else { continue };
                    store.commit(&commit_of(goes(number, node, last))).unwrap();
                    expected.remove(&node);
                }
                Action::Supersede(n) => {
                    let Some((node, number)) = nth(&expected, n) else { continue };
                    last += 1;
                    let gone = goes(number, node, last);
                    let changes = Changes { gone_ids: gone.gone_ids, retired: gone.retired, ..arrives(last, node) };
                    store.commit(&commit_of(changes)).unwrap();
                    expected.insert(node, last);
                }
                Action::Compact => store.compact(&lobby()).unwrap(),
                Action::Reopen => {
                    drop(store);
                    store = open(folder.path());
                }
                Action::CompactAll => {
                    drop(store);
                    Store::open_existing(folder.path()).unwrap().compact_all(&mut |_| ()).unwrap();
                    store = open(folder.path());
                }
            }
            prop_assert_eq!(held(&store), expected.values().copied().collect::<Vec<_>>());
        }
    }
}
