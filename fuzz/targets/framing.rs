#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| haul_webrtc::fuzzing::framing(data));
