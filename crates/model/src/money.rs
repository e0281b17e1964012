//! Money: whole minor units of one currency. Never a float.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

// The active codes of ISO 4217 by their exponent (list one, https://www.six-group.com/en/products-services/financial-information/
// market-reference-data/data-standards.html), in its order. Those without a minor unit are left out: metals, units of account,
// and the codes for tests and for no currency. Nobody pays with them.

/// Without a minor unit of their own: 1250 is 1250 JPY.
#[rustfmt::skip]
const WHOLE: [&[u8; 3]; 17] = [
    b"BIF", b"CLP", b"DJF", b"GNF", b"ISK", b"JPY", b"KMF", b"KRW", b"PYG", b"RWF", b"UGX", b"UYI",
    b"VND", b"VUV", b"XAF", b"XOF", b"XPF",
];

/// Of two digits: 1250 is 12.50 EUR.
#[rustfmt::skip]
const HUNDREDTHS: [&[u8; 3]; 138] = [
    b"AED", b"AFN", b"ALL", b"AMD", b"AOA", b"ARS", b"AUD", b"AWG", b"AZN", b"BAM", b"BBD", b"BDT",
    b"BMD", b"BND", b"BOB", b"BOV", b"BRL", b"BSD", b"BTN", b"BWP", b"BYN", b"BZD", b"CAD", b"CDF",
    b"CHE", b"CHF", b"CHW", b"CNY", b"COP", b"COU", b"CRC", b"CUP", b"CVE", b"CZK", b"DKK", b"DOP",
    b"DZD", b"EGP", b"ERN", b"ETB", b"EUR", b"FJD", b"FKP", b"GBP", b"GEL", b"GHS", b"GIP", b"GMD",
    b"GTQ", b"GYD", b"HKD", b"HNL", b"HTG", b"HUF", b"IDR", b"ILS", b"INR", b"IRR", b"JMD", b"KES",
    b"KGS", b"KHR", b"KPW", b"KYD", b"KZT", b"LAK", b"LBP", b"LKR", b"LRD", b"LSL", b"MAD", b"MDL",
    b"MGA", b"MKD", b"MMK", b"MNT", b"MOP", b"MRU", b"MUR", b"MVR", b"MWK", b"MXN", b"MXV", b"MYR",
    b"MZN", b"NAD", b"NGN", b"NIO", b"NOK", b"NPR", b"NZD", b"PAB", b"PEN", b"PGK", b"PHP", b"PKR",
    b"PLN", b"QAR", b"RON", b"RSD", b"RUB", b"SAR", b"SBD", b"SCR", b"SDG", b"SEK", b"SGD", b"SHP",
    b"SLE", b"SOS", b"SRD", b"SSP", b"STN", b"SVC", b"SYP", b"SZL", b"THB", b"TJS", b"TMT", b"TOP",
    b"TRY", b"TTD", b"TWD", b"TZS", b"UAH", b"USD", b"USN", b"UYU", b"UZS", b"VED", b"VES", b"WST",
    b"XCD", b"XCG", b"YER", b"ZAR", b"ZMW", b"ZWG",
];

/// Of three: 1250 is 1.250 KWD.
#[rustfmt::skip]
const THOUSANDTHS: [&[u8; 3]; 7] = [
    b"BHD", b"IQD", b"JOD", b"KWD", b"LYD", b"OMR", b"TND",
];

/// Of four.
#[rustfmt::skip]
const TEN_THOUSANDTHS: [&[u8; 3]; 2] = [
    b"CLF", b"UYW",
];

/// The code of a currency that is in use, by ISO 4217. One that was read from a store or heard from a provider may be older,
/// see [`Currency::kept`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// Why a text is not a currency's code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    /// It looks like none.
    #[error("a currency is an ISO 4217 code of three capital letters, such as EUR")]
    NotACode,
    /// It looks like one, and there is none of that name, or none any more.
    #[error("{0} is no currency in use: expected an active code of ISO 4217, such as EUR")]
    NotInUse(String),
}

impl Currency {
    /// The code, three capital letters.
    pub fn code(&self) -> &str {
        // Only ASCII capitals are ever stored, see `kept`.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// Digits of the minor unit (ISO 4217 "exponent"): 2 for EUR, 0 for JPY, 3 for KWD.
    pub fn exponent(&self) -> u8 {
        self.active_exponent().unwrap_or(2)
    }

    /// A currency as a ledger or a payment provider has it. Currencies come to an end, and their orders and payments must
    /// be read for as long as they are kept: any three capitals are taken here.
    pub fn kept(text: &str) -> Result<Self, CurrencyError> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(CurrencyError::NotACode),
        }
    }

    /// [`Currency::kept`] for serde's `deserialize_with`.
    pub fn deserialize_kept<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::kept(&text).map_err(D::Error::custom)
    }

    fn active_exponent(&self) -> Option<u8> {
        let groups: [(u8, &[&[u8; 3]]); 4] =
            [(2, &HUNDREDTHS), (0, &WHOLE), (3, &THOUSANDTHS), (4, &TEN_THOUSANDTHS)];
        let of = |(_, codes): &(u8, &[&[u8; 3]])| codes.binary_search(&&self.0).is_ok();
        groups.into_iter().find(of).map(|(exponent, _)| exponent)
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let code = Self::kept(text)?;
        match code.active_exponent() {
            Some(_) => Ok(code),
            None => Err(CurrencyError::NotInUse(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Currency {
    type Error = CurrencyError;

    fn try_from(text: String) -> Result<Self, CurrencyError> {
        text.parse()
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.code().to_owned()
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl schemars::JsonSchema for Currency {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Currency".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217 code" })
    }
}

/// An amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Money {
    /// The amount in the currency's minor unit: 1250 is 12.50 EUR, or 1250 JPY.
    pub amount_minor: i64,
    /// Whose minor unit it is.
    pub currency: Currency,
}

impl Money {
    /// This amount `quantity` times, or `None` where it does not fit.
    pub fn times(self, quantity: u32) -> Option<Self> {
        Some(Self { amount_minor: self.amount_minor.checked_mul(i64::from(quantity))?, ..self })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = usize::from(self.currency.exponent());
        let unit = 10_u64.pow(exponent as u32);
        let amount = self.amount_minor.unsigned_abs();
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        match exponent {
            0 => write!(f, "{sign}{amount} {}", self.currency),
            _ => write!(f, "{sign}{}.{:0exponent$} {}", amount / unit, amount % unit, self.currency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_print_with_their_currencys_digits() {
        let money =
            |amount_minor, code: &str| Money { amount_minor, currency: code.parse().unwrap() }.to_string();
        assert_eq!(money(1250, "EUR"), "12.50 EUR");
        assert_eq!(money(-5, "EUR"), "-0.05 EUR");
        assert_eq!(money(1250, "JPY"), "1250 JPY");
        assert_eq!(money(1250, "KWD"), "1.250 KWD");
    }

    #[test]
    fn codes_are_three_capitals() {
        for bad in ["eur", "EU", "EURO", "E1R", "€€€"] {
            assert_eq!(bad.parse::<Currency>(), Err(CurrencyError::NotACode), "{bad}");
            assert!(Currency::kept(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_currencies_in_use_are_taken_and_older_ones_can_still_be_read() {
        let mut all: Vec<_> =
            [&HUNDREDTHS[..], &WHOLE, &THOUSANDTHS, &TEN_THOUSANDTHS].concat().into_iter().copied().collect();
        for group in [&HUNDREDTHS[..], &WHOLE, &THOUSANDTHS, &TEN_THOUSANDTHS] {
            assert!(group.is_sorted(), "looked up by halves");
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 164);
        for code in all {
            assert!(std::str::from_utf8(&code).unwrap().parse::<Currency>().is_ok());
        }
        for (code, exponent) in [("EUR", 2), ("XCG", 2), ("ZWG", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)] {
            assert_eq!(code.parse::<Currency>().unwrap().exponent(), exponent, "{code}");
        }
        // Of nobody, of a country that has the euro now, for tests, for none, and gold.
        for code in ["ABC", "DEM", "HRK", "XTS", "XXX", "XAU"] {
            let refused = code.parse::<Currency>();
            assert_eq!(refused, Err(CurrencyError::NotInUse(code.to_owned())));
            assert!(Currency::try_from(code.to_owned()).is_err());
            assert_eq!(Currency::kept(code).unwrap().code(), code);
        }
        let error = CurrencyError::NotInUse("ABC".to_owned()).to_string();
        assert!(error.starts_with("ABC is no currency in use"), "{error}");
    }

    #[test]
    fn a_sum_that_does_not_fit_is_refused() {
        let much = Money { amount_minor: i64::MAX / 2, currency: "CNY".parse().unwrap() };
        assert_eq!(much.times(3), None);
    }
}
