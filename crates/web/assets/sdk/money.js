// Money is whole minor units of a currency, never a float: { amount_minor: 1250, currency: "EUR" } is 12.50 EUR.

// Digits of the minor unit (ISO 4217); two where not listed. The server has the same table.
const EXPONENTS = {
  BIF: 0, CLP: 0, DJF: 0, GNF: 0, ISK: 0, JPY: 0, KMF: 0, KRW: 0, PYG: 0, RWF: 0, UGX: 0, UYI: 0, VND: 0, VUV: 0,
  XAF: 0, XOF: 0, XPF: 0, BHD: 3, IQD: 3, JOD: 3, KWD: 3, LYD: 3, OMR: 3, TND: 3, CLF: 4, UYW: 4,
};

const formats = new Map();

export function exponent(currency) {
  return currency in EXPONENTS ? EXPONENTS[currency] : 2;
}

/** The amount as people write it, for instance "€12.50". */
export function formatMoney({ amount_minor, currency }, locale = undefined) {
  const digits = exponent(currency);
  const key = `${locale}/${currency}`;
  let format = formats.get(key);
  if (!format) {
    format = new Intl.NumberFormat(locale, {
      style: "currency",
      currency,
      minimumFractionDigits: digits,
      maximumFractionDigits: digits,
    });
    formats.set(key, format);
  }
  return format.format(amount_minor / 10 ** digits);
}

/** Minor units of a typed amount ("12.5", "12,50"), or null where it is not one. No float takes part. */
export function parseAmount(text, currency) {
  const match = /^\s*(\d{1,12})(?:[.,](\d*))?\s*$/.exec(text);
  if (!match) return null;
  const digits = exponent(currency);
  const fraction = match[2] || "";
  if (fraction.length > digits) return null;
  return Number(match[1] + fraction.padEnd(digits, "0"));
}

/** The amount as a plain number for an input field, for instance "12.50". */
export function plainAmount({ amount_minor, currency }) {
  const digits = exponent(currency);
  const text = String(Math.abs(amount_minor)).padStart(digits + 1, "0");
  const sign = amount_minor < 0 ? "-" : "";
  return digits === 0 ? sign + text : `${sign}${text.slice(0, -digits)}.${text.slice(-digits)}`;
}
