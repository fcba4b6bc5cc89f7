//! The page is embedded by the names its files have, and these change with what is in them.

fn main() {
    println!("cargo:rerun-if-changed=page/dist");
    println!("cargo:rerun-if-changed=build.rs");
}
