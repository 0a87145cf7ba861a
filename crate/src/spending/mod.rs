//! Spending: attribution ([`who`]), allowances ([`settings`], [`window`], [`allowance`]), the runaway alarm
//! ([`alarm`]), losses of the prompt cache ([`cache`]), the cost of prompt parts ([`prompt_bill`]), the forecast of the
//! month ([`forecast`]), and the sums for reports ([`history`]).
//!
//! No I/O: time is an argument, effects are return values, and state is plain structs with serde. Times are ms since
//! 1970. Durations are ms unless their name says seconds. Money is USD.

pub mod alarm;
pub mod allowance;
pub mod cache;
pub mod daily;
pub mod forecast;
pub mod history;
pub mod loops;
mod meter;
pub mod prompt_bill;
pub mod recent;
pub mod robust;
pub mod settings;
pub mod who;
pub mod window;
pub mod zones;

use serde::{Deserialize, Serialize};

/// Money in 1e-9 USD. Sums of integers do not depend on their order, so a sum that is rebuilt after a restart equals
/// the sum before it. Rounding changes one call by at most 5e-10 USD.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Nano(pub u64);

impl Nano {
    /// Converts USD; 0 for negative amounts and NaN.
    pub fn of_usd(usd: f64) -> Self {
        // `as` saturates, and converts NaN and negative numbers to 0.
        Self((usd * 1e9).round() as u64)
    }

    /// The amount in USD.
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The sum; saturates.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; 0 if `other` is larger.
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Nano {
    /// Saturates. The sum of no amounts is 0; of floats it is -0.
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Self::plus)
    }
}

impl std::fmt::Display for Nano {
    /// Formats as `20.00 USD`; amounts below a cent have further digits.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let usd = self.usd();
        match self.0 {
            0 => f.write_str("0 USD"),
            1..=99_999 => write!(f, "{usd:.9} USD"),
            100_000..=9_999_999 => write!(f, "{usd:.5} USD"),
            10_000_000..=999_999_999 => write!(f, "{usd:.3} USD"),
            _ => write!(f, "{usd:.2} USD"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_rounded_to_a_billionth_and_never_negative() {
        assert_eq!(Nano::of_usd(0.000_798_3).0, 798_300);
        for nothing in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(Nano::of_usd(nothing), Nano(0));
        }
        assert_eq!(Nano::of_usd(f64::INFINITY).0, u64::MAX);
        assert_eq!(Nano(u64::MAX).plus(Nano(1)).0, u64::MAX);
        assert_eq!(Nano(1).less(Nano(2)).0, 0);
    }

    #[test]
    fn money_is_written_with_the_digits_that_count() {
        let written = |usd| Nano::of_usd(usd).to_string();
        assert_eq!(written(20.0), "20.00 USD");
        assert_eq!(written(0.01), "0.010 USD");
        assert_eq!(written(0.000_798), "0.00080 USD");
        assert_eq!(written(0.000_000_02), "0.000000020 USD");
        assert_eq!(written(0.0), "0 USD");
    }

    #[test]
    fn the_sum_of_no_amounts_has_no_sign() {
        let none: Nano = [].into_iter().sum();
        assert_eq!(none.usd().to_bits(), 0.0_f64.to_bits());
        let two: Nano = [Nano(u64::MAX), Nano(1)].into_iter().sum();
        assert_eq!(two, Nano(u64::MAX));
    }
}
