//! What an AAC stream says of itself: the AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1). Untrusted.

use super::bits::Bits;

/// Sampling frequencies by their index (table 1.18).
const RATES_HZ: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// The index in place of which the frequency itself is told.
const EXPLICIT: u32 = 15;
/// Object types whose access units stand for more samples a second than the core has (1.6.2.1: SBR, PS).
const SBR: u32 = 5;
const PS: u32 = 29;
/// The largest that is taken, in bytes. They have two to five, with extensions a few more.
pub(crate) const MAX_CONFIG_BYTES: usize = 64;

/// How a stream is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Config {
    /// The audio object type: 2 is AAC-LC.
    pub(crate) object_type: u32,
    pub(crate) sample_rate_hz: u32,
    pub(crate) channels: u32,
}

impl Config {
    /// `None` for what is no such configuration, or has its channels told elsewhere.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_CONFIG_BYTES {
            return None;
        }
        let mut bits = Bits::new(bytes);
        let object_type = object_type(&mut bits)?;
        let core_hz = rate(&mut bits)?;
        let channels = match bits.bits(4)? {
            layout @ 1..=6 => layout,
            7 => 8,
            _ => return None,
        };
        let sample_rate_hz = if matches!(object_type, SBR | PS) { rate(&mut bits)? } else { core_hz };
        Some(Self { object_type, sample_rate_hz, channels })
    }

    /// The codec string (RFC 6381, 3.3).
    pub(crate) fn codec(self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.bits(5)? {
        31 => Some(32 + bits.bits(6)?),
        kind => Some(kind),
    }
}

fn rate(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.bits(4)? {
        EXPLICIT => bits.bits(24).filter(|hz| (1..=192_000).contains(hz)),
        index => RATES_HZ.get(index as usize).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_read() {
        let config = |object_type, sample_rate_hz, channels| Config { object_type, sample_rate_hz, channels };
        assert_eq!(Config::parse(&[0x11, 0x90]), Some(config(2, 48_000, 2)));
        assert_eq!(Config::parse(&[0x12, 0x08]), Some(config(2, 44_100, 1)));
        // HE-AAC: a core of 24 kHz, twice that with its extension.
        assert_eq!(Config::parse(&[0x2B, 0x11, 0x88, 0x00]), Some(config(5, 48_000, 2)));
        assert_eq!(config(2, 48_000, 2).codec(), "mp4a.40.2");
    }

    #[test]
    fn what_is_no_configuration_is_none() {
        for bytes in [&[][..], &[0x11], &[0x16, 0x90], &[0x11, 0x80], &[0x17, 0x80, 0, 0, 0x10], &[0x11; 65]]
        {
            assert_eq!(Config::parse(bytes), None, "{bytes:?}");
        }
    }
}
