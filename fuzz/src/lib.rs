//! What the fuzz targets share: each is one of [`facetd::fuzzing::TARGETS`], held to the same bound of memory as in
//! tests/decodes_anything.rs.

#[path = "../../tests/common/counting.rs"]
mod counting;

use counting::{Counting, most_taken};
use facetd::fuzzing::target;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Writes what libFuzzer begins with, where cargo-fuzz looks for it.
pub fn sow(name: &str) {
    let folder = format!("{}/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir_all(&folder).expect("the folder of the corpus can be made");
    for (number, seed) in (target(name).seeds)().iter().enumerate() {
        (target(name).decode)(seed); // what is made once and kept is not counted
        std::fs::write(format!("{folder}/seed-{number}"), seed).expect("a seed can be written");
    }
}

pub fn check(name: &str, bytes: &[u8]) {
    let target = target(name);
    let (taken, bound) = (most_taken(|| (target.decode)(bytes)), target.bound.of(bytes.len()));
    assert!(taken <= bound, "{name}: {} bytes took {taken} of memory, at most {bound} are allowed", bytes.len());
}

/// The whole of a fuzz target.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(init: $crate::sow($name), |bytes: &[u8]| $crate::check($name, bytes));
    };
}
