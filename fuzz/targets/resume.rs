#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| haul_room::fuzzing::resume(data));
