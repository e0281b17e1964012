//! Fragmented MP4 (ISO/IEC 14496-12), as far as one track of CMAF fragments needs it. Untrusted: what does not parse is
//! `None`.

use bytes::Bytes;

/// The most samples of a fragment. More are nonsense.
pub(crate) const MAX_SAMPLES: u32 = 4096;
/// The most boxes looked at in one box.
const MAX_BOXES: usize = 256;

/// What a track's initialization segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Init {
    /// Ticks a second of the fragments' times.
    timescale: u32,
    /// Where a fragment does not say them: a sample's duration and size.
    duration: u32,
    size: u32,
    /// An `avcC` or `hvcC`, or the AudioSpecificConfig in an `esds`, where there is one.
    pub(crate) configuration: Option<Bytes>,
}

/// One access unit of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When it is shown, in microseconds.
    pub(crate) us: u64,
    pub(crate) payload: Bytes,
}

/// The boxes in `bytes`: type and body. Ends where something is no box.
fn boxes(bytes: &Bytes) -> impl Iterator<Item = ([u8; 4], Bytes)> {
    let mut rest = bytes.clone();
    std::iter::from_fn(move || {
        let size = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
        let kind: [u8; 4] = rest.get(4..8)?.try_into().ok()?;
        let (head, size) = match size {
            0 => (8, rest.len() as u64),
            1 => (16, u64::from_be_bytes(rest.get(8..16)?.try_into().ok()?)),
            size => (8, u64::from(size)),
        };
        let size = usize::try_from(size).ok()?;
        if size < head || size > rest.len() {
            return None;
        }
        let body = rest.slice(head..size);
        rest = rest.slice(size..);
        Some((kind, body))
    })
    .take(MAX_BOXES)
}

/// The first box of the path.
fn find(bytes: &Bytes, path: &[&[u8; 4]]) -> Option<Bytes> {
    path.iter().try_fold(bytes.clone(), |bytes, wanted| {
        boxes(&bytes).find(|(kind, _)| kind == *wanted).map(|(_, body)| body)
    })
}

/// The DecoderSpecificInfo in an `esds` (ISO/IEC 14496-14, 3.1.2; 14496-1, 7.2.6).
fn specific_info(esds: &Bytes) -> Option<Bytes> {
    let [es, decoder_config, specific] = [3, 4, 5];
    let stream = descriptor(&esds.slice(esds.len().min(4)..), es)?;
    let flags = *stream.get(2)?;
    let mut at = 3 + if flags & 0x80 != 0 { 2 } else { 0 };
    if flags & 0x40 != 0 {
        at += 1 + usize::from(*stream.get(at)?);
    }
    at += if flags & 0x20 != 0 { 2 } else { 0 };
    let decoder = descriptor(&stream.slice(stream.len().min(at)..), decoder_config)?;
    descriptor(&decoder.slice(decoder.len().min(13)..), specific)
}

/// The body of the descriptor that `bytes` begin with, if it has this tag.
fn descriptor(bytes: &Bytes, wanted: u8) -> Option<Bytes> {
    if *bytes.first()? != wanted {
        return None;
    }
    // Seven bits of the size in each byte, four at most, the highest bit says that there are more.
    let (mut size, mut at) = (0_usize, 1);
    loop {
        let byte = *bytes.get(at)?;
        size = size << 7 | usize::from(byte & 0x7F);
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        if at > 4 {
            return None;
        }
    }
    (size <= bytes.len() - at).then(|| bytes.slice(at..at + size))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Init {
    /// Reads `ftyp` and `moov`. Of several tracks, the first is meant.
    pub(crate) fn parse(segment: &Bytes) -> Option<Self> {
        let moov = find(segment, &[b"moov"])?;
        let media = find(&moov, &[b"trak", b"mdia"])?;
        let header = find(&media, &[b"mdhd"])?;
        let timescale = u32_at(&header, if *header.first()? == 1 { 20 } else { 12 })?;
        if timescale == 0 {
            return None;
        }
        let defaults = find(&moov, &[b"mvex", b"trex"]);
        let default = |at| defaults.as_ref().and_then(|trex| u32_at(trex, at)).unwrap_or(0);
        let entries = find(&media, &[b"minf", b"stbl", b"stsd"])?;
        let entry = entries.get(8..).and_then(|_| boxes(&entries.slice(8..)).next());
        // A sample entry has its own fields in front of its boxes (12.1.3, 12.2.3).
        let configuration = entry.and_then(|(kind, entry)| {
            let fields = if &kind == b"mp4a" { 28 } else { 78 };
            let inner = (entry.len() > fields).then(|| entry.slice(fields..))?;
            boxes(&inner).find_map(|(kind, body)| match &kind {
                b"avcC" | b"hvcC" => Some(body),
                b"esds" => specific_info(&body),
                _ => None,
            })
        });
        Some(Self { timescale, duration: default(12), size: default(16), configuration })
    }

    /// The samples of a fragment: `moof` and `mdat`.
    pub(crate) fn samples(&self, fragment: &Bytes) -> Option<Vec<Sample>> {
        let traf = find(fragment, &[b"moof", b"traf"])?;
        let mut data = find(fragment, &[b"mdat"])?;
        let header = find(&traf, &[b"tfhd"])?;
        let (mut duration, mut size) = (self.duration, self.size);
        let flags = u32_at(&header, 0)? & 0x00FF_FFFF;
        let mut at = 8;
        for (flag, bytes) in [(0x1, 8), (0x2, 4)] {
            at += if flags & flag != 0 { bytes } else { 0 };
        }
        for (flag, value) in [(0x8, &mut duration), (0x10, &mut size)] {
            if flags & flag != 0 {
                *value = u32_at(&header, at)?;
                at += 4;
            }
        }
        let decode = find(&traf, &[b"tfdt"])?;
        let mut time =
            if *decode.first()? == 1 { u64_at(&decode, 4)? } else { u64::from(u32_at(&decode, 4)?) };
        let mut samples = Vec::new();
        for (_, run) in boxes(&traf).filter(|(kind, _)| kind == b"trun") {
            let flags = u32_at(&run, 0)? & 0x00FF_FFFF;
            let signed = *run.first()? == 1;
            let count = u32_at(&run, 4)?;
            if samples.len() + count as usize > MAX_SAMPLES as usize {
                return None;
            }
            let mut at = 8 + if flags & 0x1 != 0 { 4 } else { 0 } + if flags & 0x4 != 0 { 4 } else { 0 };
            let mut next = |flag: u32, default: u32| {
                if flags & flag == 0 {
                    return Some(default);
                }
                at += 4;
                u32_at(&run, at - 4)
            };
            for _ in 0..count {
                let duration = next(0x100, duration)?;
                let size = next(0x200, size)?;
                next(0x400, 0)?;
                let offset = next(0x800, 0)?;
                let offset = if signed { i64::from(offset as i32) } else { i64::from(offset) };
                let size = usize::try_from(size).ok().filter(|size| *size <= data.len())?;
                let shown = u128::from(time.checked_add_signed(offset)?);
                let us = shown * 1_000_000 / u128::from(self.timescale);
                samples.push(Sample { us: u64::try_from(us).ok()?, payload: data.split_to(size) });
                time = time.checked_add(u64::from(duration))?;
            }
        }
        Some(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn init() -> Bytes {
        let entry = boxed(b"avc1", &[vec![0; 78], boxed(b"avcC", &[1, 2, 3])].concat());
        let stsd = boxed(b"stsd", &[words(&[0, 1]), entry].concat());
        let media =
            [boxed(b"mdhd", &words(&[0, 0, 0, 1000, 0])), boxed(b"minf", &boxed(b"stbl", &stsd))].concat();
        let trex = boxed(b"trex", &words(&[0, 1, 1, 40, 0, 0]));
        let moov = [boxed(b"trak", &boxed(b"mdia", &media)), boxed(b"mvex", &trex)].concat();
        [boxed(b"ftyp", b"isom"), boxed(b"moov", &moov)].concat().into()
    }

    fn fragment() -> Bytes {
        let run = words(&[0x0100_0000 | 0x200 | 0x800 | 1, 2, 99, 3, 0, 2, (-20_i32) as u32]);
        let traf =
            [boxed(b"tfhd", &words(&[0, 1])), boxed(b"tfdt", &words(&[0, 5_000])), boxed(b"trun", &run)];
        [boxed(b"moof", &boxed(b"traf", &traf.concat())), boxed(b"mdat", b"abcde")].concat().into()
    }

    #[test]
    fn samples_are_read_with_their_times() {
        let init = Init::parse(&init()).unwrap();
        assert_eq!(init.configuration.as_deref(), Some(&[1, 2, 3][..]));
        let sample = |us, payload: &'static [u8]| Sample { us, payload: Bytes::from_static(payload) };
        assert_eq!(init.samples(&fragment()).unwrap(), [sample(5_000_000, b"abc"), sample(5_020_000, b"de")]);
    }

    #[test]
    fn the_configuration_of_sound_is_in_its_descriptors() {
        let long = |tag: u8, body: &[u8]| [&[tag, 0x80, 0x80, 0x80, body.len() as u8], body].concat();
        let decoder = [&[0x40; 13][..], &long(5, &[0x11, 0x90])].concat();
        let stream = [&[0, 1, 0x80, 9, 9][..], &[4, decoder.len() as u8], &decoder].concat();
        let esds: Bytes = [&[0; 4][..], &long(3, &stream)].concat().into();
        assert_eq!(specific_info(&esds).as_deref(), Some(&[0x11, 0x90][..]));
        for cut in 0..esds.len() {
            assert_eq!(specific_info(&esds.slice(..cut)), None, "{cut}");
        }
    }

    #[test]
    fn what_is_cut_short_or_lies_is_nothing() {
        let (init, fragment) = (Init::parse(&init()).unwrap(), fragment());
        for cut in 0..fragment.len() {
            assert_eq!(init.samples(&fragment.slice(..cut)), None, "{cut}");
        }
        let mut lies = fragment.to_vec();
        let at = lies.windows(4).position(|kind| kind == b"trun").unwrap() + 8;
        lies[at..at + 4].fill(0xFF);
        assert_eq!(init.samples(&lies.into()), None);
        assert_eq!(Init::parse(&Bytes::from_static(b"nothing of the kind")), None);
    }
}
