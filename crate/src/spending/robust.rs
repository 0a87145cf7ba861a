//! Statistics that are robust against one extreme value. Values have any unit and any order; NaN and infinities are
//! left out.

/// Scales a median absolute deviation to the standard deviation of a normal distribution.
const OF_NORMAL: f64 = 1.4826;
/// Fraction of the values that is clamped at each end of [`mean`].
const CLAMPED: f64 = 0.1;
/// Number of values from which at least one is clamped at each end.
const FEW: usize = 5;

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The quantile at `part` (0 to 1), interpolated; `None` without values.
///
/// Monotonic: a larger value never reduces the result.
pub fn quantile(values: &[f64], part: f64) -> Option<f64> {
    of_sorted(&sorted(values), part)
}

fn of_sorted(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let (low, high) = (*sorted.get(below)?, *sorted.get(above)?);
    // The clamp keeps rounding errors within both values.
    Some((low + (high - low) * place.fract()).clamp(low, high))
}

/// The median; `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The median, and the median absolute deviation scaled to a standard deviation; `None` without values.
pub fn spread(values: &[f64]) -> Option<(f64, f64)> {
    let middle = median(values)?;
    let distances: Vec<f64> = values.iter().map(|value| (value - middle).abs()).collect();
    Some((middle, OF_NORMAL * median(&distances)?))
}

/// The winsorized mean: the lowest and the highest tenth of the values (at least one of five values) are clamped to
/// their next neighbour. `None` without values.
///
/// Monotonic: a larger value never reduces the result.
pub fn mean(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let last = sorted.len().checked_sub(1)?;
    let clamped = match sorted.len() {
        count if count < FEW => 0,
        count => ((count as f64 * CLAMPED) as usize).max(1),
    };
    let (low, high) = (*sorted.get(clamped)?, *sorted.get(last - clamped)?);
    let sum: f64 = sorted.iter().map(|value| value.clamp(low, high)).sum();
    Some(sum / sorted.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_extreme_value_moves_nothing_far() {
        let mut values = vec![1.0, 1.2, 0.9, 1.1, 1.0, 0.8, 1.0];
        let before = (mean(&values), spread(&values));
        values.push(1_000.0);
        let after = (mean(&values), spread(&values));
        assert!((before.0.unwrap_or(0.0) - after.0.unwrap_or(0.0)).abs() < 0.1);
        assert!((before.1.unwrap_or_default().0 - after.1.unwrap_or_default().0).abs() < 0.1);
    }

    #[test]
    fn of_nothing_there_is_nothing() {
        assert_eq!((mean(&[]), median(&[]), spread(&[])), (None, None, None));
        assert_eq!(mean(&[f64::NAN, 2.0]), Some(2.0));
        assert_eq!(quantile(&[1.0, 3.0], 0.5), Some(2.0));
        assert_eq!(quantile(&[1.0, 3.0], 7.0), Some(3.0));
    }
}
