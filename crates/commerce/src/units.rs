//! How many units of which lines of a sale.
//!
//! Most sales have one line, and most holds are of it: that is written as its number alone (`2`). Others name each line
//! (`0:1+3:2`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A line of a sale: one SKU, counted from 0.
pub type Line = u8;

/// The most lines of a sale, and so of a hold. Bounds what a script reads of one sale, and what a room is told of it.
pub const MAX_LINES: usize = 50;

/// Units of one or more lines, by line.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Units(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    /// Of line 0 alone: nearly all of them, and no allocation.
    First(u32),
    /// Sorted by line, each once, at least one.
    Lines(Box<[(Line, u32)]>),
}

/// Why these are no units.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitsError {
    /// No line is named.
    #[error("expected at least one line")]
    Empty,
    /// A line is named twice.
    #[error("line {0} is named twice")]
    Twice(Line),
    /// More than [`MAX_LINES`].
    #[error("expected at most {MAX_LINES} lines")]
    TooMany,
    /// Not written as units are.
    #[error("expected a number, or line:number joined by plus signs, not {0:?}")]
    Text(String),
}

impl Units {
    /// Units of several lines.
    pub fn new(lines: impl IntoIterator<Item = (Line, u32)>) -> Result<Self, UnitsError> {
        let mut lines: Vec<_> = lines.into_iter().take(MAX_LINES + 1).collect();
        lines.sort_unstable();
        if let Some(pair) = lines.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(UnitsError::Twice(pair[0].0));
        }
        match *lines {
            [] => Err(UnitsError::Empty),
            [(0, quantity)] => Ok(Self::from(quantity)),
            _ if lines.len() > MAX_LINES => Err(UnitsError::TooMany),
            _ => Ok(Self(Repr::Lines(lines.into()))),
        }
    }

    /// Units of one line.
    pub fn of_line(line: Line, quantity: u32) -> Self {
        match line {
            0 => Self::from(quantity),
            _ => Self(Repr::Lines(Box::new([(line, quantity)]))),
        }
    }

    /// Each line with its units, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Line, u32)> + '_ {
        let (first, lines) = match &self.0 {
            Repr::First(quantity) => (Some((0, *quantity)), &[][..]),
            Repr::Lines(lines) => (None, &**lines),
        };
        first.into_iter().chain(lines.iter().copied())
    }

    /// Units of a line; 0 where it is not among them.
    pub fn of(&self, line: Line) -> u32 {
        self.iter().find(|(known, _)| *known == line).map_or(0, |(_, quantity)| quantity)
    }

    /// Units of all lines.
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, quantity)| u64::from(quantity)).sum()
    }

    /// Units of all lines as people count them: more than any sale has are told as the most that can be.
    pub fn quantity(&self) -> u32 {
        u32::try_from(self.total()).unwrap_or(u32::MAX)
    }

    /// Whether line 0 is the only one.
    pub fn is_plain(&self) -> bool {
        matches!(self.0, Repr::First(_))
    }

    /// Of each line the greater number.
    pub fn most(&self, other: &Self) -> Self {
        if let (Repr::First(a), Repr::First(b)) = (&self.0, &other.0) {
            return Self::from(*a.max(b));
        }
        let mut lines: Vec<(Line, u32)> = self.iter().collect();
        for (line, quantity) in other.iter() {
            match lines.iter_mut().find(|(known, _)| *known == line) {
                Some((_, known)) => *known = quantity.max(*known),
                None => lines.push((line, quantity)),
            }
        }
        lines.sort_unstable();
        Self(Repr::Lines(lines.into()))
    }

    /// Whether there are as many of each line here.
    pub fn contains(&self, other: &Self) -> bool {
        other.iter().all(|(line, quantity)| quantity <= self.of(line))
    }
}

impl From<u32> for Units {
    /// So many of line 0.
    fn from(quantity: u32) -> Self {
        Self(Repr::First(quantity))
    }
}

impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::First(quantity) => write!(f, "{quantity}"),
            Repr::Lines(lines) => {
                for (index, (line, quantity)) in lines.iter().enumerate() {
                    write!(f, "{}{line}:{quantity}", if index == 0 { "" } else { "+" })?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Units {
    type Err = UnitsError;

    fn from_str(text: &str) -> Result<Self, UnitsError> {
        let wrong = || UnitsError::Text(text.chars().take(40).collect());
        if let Ok(quantity) = text.parse::<u32>() {
            return Ok(Self::from(quantity));
        }
        let mut lines = Vec::new();
        for part in text.split('+').take(MAX_LINES + 1) {
            let (line, quantity) = part.split_once(':').ok_or_else(wrong)?;
            lines.push((line.parse().map_err(|_| wrong())?, quantity.parse().map_err(|_| wrong())?));
        }
        Self::new(lines)
    }
}

impl Serialize for Units {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::First(quantity) => serializer.serialize_u32(*quantity),
            Repr::Lines(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u32),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(quantity) => Ok(Self::from(quantity)),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_they_are_written() {
        for (text, lines) in [
            ("2", vec![(0, 2)]),
            ("0:1+3:2", vec![(3, 2), (0, 1)]),
            ("7:9", vec![(7, 9)]),
            ("0", vec![(0, 0)]),
        ] {
            let units = Units::new(lines).unwrap();
            assert_eq!(units.to_string(), text);
            assert_eq!(text.parse(), Ok(units));
        }
    }

    #[test]
    fn what_are_no_units_is_refused() {
        assert_eq!(Units::new([]), Err(UnitsError::Empty));
        assert_eq!(Units::new([(1, 1), (1, 2)]), Err(UnitsError::Twice(1)));
        assert_eq!(Units::new((0..60).map(|line| (line, 1))), Err(UnitsError::TooMany));
        for text in ["", "x", "1:", ":1", "1:1+", "1:1+1:2", "300:1", "-1", "1:4294967296"] {
            assert!(text.parse::<Units>().is_err(), "{text}");
        }
    }

    #[test]
    fn of_each_line_the_greater_number_counts() {
        let (a, b) = (Units::from(2), Units::new([(0, 1), (4, 3)]).unwrap());
        assert_eq!(a.most(&b), Units::new([(0, 2), (4, 3)]).unwrap());
        assert_eq!((a.most(&b).total(), b.of(4), a.of(4)), (5, 3, 0));
        assert!(a.most(&b).contains(&b) && !b.contains(&a));
    }
}
