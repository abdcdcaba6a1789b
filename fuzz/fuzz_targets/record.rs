//! Any calls on a span, compared with the naive model of the property tests.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/spans/naive/mod.rs"]
mod naive;

fuzz_target!(|case: naive::Case| naive::check(&case));
