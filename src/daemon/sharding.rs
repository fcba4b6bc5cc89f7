//! Which collections are at home here, where several daemons share a group.
//!
//! A collection has one home, or two engines would each know half of it under the same name. It is
//! a function of the name alone, so that a producer can find it too and send a collection's faces to a
//! partition that its home owns: CRC-32 (IEEE, as in zlib) of the name, modulo the number of shards.

use crate::config::Kafka;
use crate::face::CollectionName;

/// One of several daemons, or the only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharding {
    pub shard: u32,
    pub shards: u32,
}

impl Sharding {
    pub fn new(config: &Kafka) -> Sharding {
        Sharding { shard: config.shard, shards: config.shards }
    }

    /// The shard that is a collection's home.
    pub fn home_of(self, collection: &CollectionName) -> u32 {
        crc32fast::hash(collection.as_str().as_bytes()) % self.shards
    }

    pub fn is_home_of(self, collection: &CollectionName) -> bool {
        self.home_of(collection) == self.shard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_has_one_home_and_producers_can_find_it() {
        for (name, crc) in [("default", 0xe35e_00df_u32), ("lobby", 0xcce4_55f7)] {
            let name = CollectionName::new(name).unwrap();
            assert_eq!(crc32fast::hash(name.as_str().as_bytes()), crc, "zlib.crc32 of {name}");
            for shards in 1..6 {
                let homes = (0..shards).filter(|&shard| Sharding { shard, shards }.is_home_of(&name));
                assert_eq!(homes.collect::<Vec<_>>(), [crc % shards]);
            }
        }
    }
}
