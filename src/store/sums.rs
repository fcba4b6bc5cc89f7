//! Sums over what sled holds: how a record that sled lost is noticed.
//!
//! Every value has a checksum, so a wrong one is noticed when it is read. One that is missing, or is
//! older than it should be, is not: where bytes of its log are damaged, sled 0.34 leaves out what they
//! said and goes on. So beside the records stands, for each collection and for what belongs to none,
//! the sum of a number for each of its records. A batch writes the sums as they are with it.
//!
//! A sum changes by what a batch adds and takes away, whatever the order, and costs one look at the
//! value before; no two states that were ever written are likely to agree in it (2^-32).

use super::keys::{self, Key};

/// What the records of one scope add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(pub u64);

impl Sum {
    /// `value` is as it lies in sled: it ends with the checksum of its key and itself.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(number(key, value));
    }

    /// Adds what another sum counts.
    pub fn join(&mut self, other: Sum) {
        self.0 = self.0.wrapping_add(other.0);
    }

    pub fn take(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(number(key, value));
    }
}

/// Whose sum counts the record at `key`: a collection's name, or nothing for what belongs to none.
/// `None` for the sums themselves.
pub fn scope(key: &[u8]) -> Option<&[u8]> {
    match key.first() {
        Some(b'f' | b'i' | b'l' | b'k' | b'x') => key[1..].split(|byte| *byte == 0).next(),
        _ if key.starts_with(&keys::sums()) => None,
        _ => Some(&[]),
    }
}

/// The scope in the key of a sum.
pub fn scope_of(key: &[u8]) -> Option<Vec<u8>> {
    key.strip_prefix(&keys::sums()[..]).map(<[u8]>::to_vec)
}

pub fn key(scope: &[u8]) -> Key {
    [&keys::sums()[..], scope].concat()
}

/// SplitMix64 of a record's checksum and lengths: numbers whose sums say as much as they do.
fn number(key: &[u8], value: &[u8]) -> u64 {
    let checksum = value.last_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let lengths = (key.len() as u64) << 16 ^ value.len() as u64;
    let mut mixed = (lengths << 32 | u64::from(checksum)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{CollectionName, NodeId};

    #[test]
    fn a_record_counts_for_its_collection() {
        let lobby = CollectionName::new("lobby").unwrap();
        assert_eq!(scope(&keys::face(&lobby, NodeId(0))), Some(&b"lobby"[..]));
        assert_eq!(scope(&keys::clusters(&lobby)), Some(&b"lobby"[..]));
        assert_eq!(scope(&keys::collection(&lobby)), Some(&b""[..]));
        assert_eq!(scope(&keys::identity()), Some(&b""[..]));
        assert_eq!(scope(&key(b"lobby")), None);
        assert_eq!(scope_of(&key(b"lobby")), Some(b"lobby".to_vec()));
    }

    #[test]
    fn a_sum_knows_what_is_missing_or_old_and_no_order() {
        let [a, b, newer] = [b"a1111", b"b2222", b"a3333"];
        let (mut one, mut other) = (Sum::default(), Sum::default());
        one.add(b"a", a);
        one.add(b"b", b);
        other.add(b"b", b);
        assert_ne!(one, other);
        other.add(b"a", newer);
        assert_ne!(one, other);
        other.take(b"a", newer);
        other.add(b"a", a);
        assert_eq!(one, other);
    }
}
