//! Promise: `facetd demo` streams through the daemon and accounts for every face.

mod common;

use common::{facetd, output_of, project};

#[test]
fn the_demo_applies_every_face_exactly_once() {
    let shown = output_of(facetd().current_dir(project()).args(["demo", "--faces", "3000"]));
    assert!(shown.contains("all 3000 faces applied exactly once"), "{shown}");
    let bcubed = shown.lines().find(|line| line.starts_with("BCubed")).unwrap();
    let f: f64 = bcubed.split_whitespace().last().unwrap().parse().unwrap();
    assert!(f > 80.0, "{shown}");
}
