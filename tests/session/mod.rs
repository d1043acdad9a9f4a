//! Sessions: how they log in, and that they keep callers apart.

mod callers;
mod login;
mod requests;

/// Numbers that differ from round to round and are the same in every run.
fn random(seed: &mut u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}
