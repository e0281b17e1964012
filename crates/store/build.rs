//! A migration that is added or changed is a change of the program: they are embedded.
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
