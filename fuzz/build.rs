//! Says `cfg(fuzzing)` to the targets however they are built: the shared model derives `Arbitrary` under it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(fuzzing)");
    println!("cargo::rustc-cfg=fuzzing");
}
