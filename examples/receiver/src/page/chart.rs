//! Bar charts over time, stacked by model: an SVG, and a table with the same figures for screen readers.
//!
//! The drawing is stretched to the available space; all text is in HTML beside it, so that it stays readable.

use super::address::Address;
use super::format::{count, escape, money, short};
use super::view::{COLOURS, View};
use crate::clock::{self, DAY, HOUR, Micros};
use crate::store::query::Bars;
use crate::store::rollup::Sums;
use std::fmt::Write;

/// The drawing's height in its own units.
const HEIGHT: f64 = 100.0;

/// Figure of a chart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Prompt and completion tokens.
    Tokens,
    /// US dollars.
    Cost,
}

impl Figure {
    fn of(self, sums: &Sums) -> f64 {
        match self {
            // Stock mode accepts negative numbers, which stacked bars cannot show.
            Self::Tokens => (sums.tokens() as f64).max(0.0),
            Self::Cost => sums.cost_usd.max(0.0),
        }
    }

    fn text(self, value: f64) -> String {
        match self {
            Self::Tokens => short(value.round() as i64),
            Self::Cost => money(value),
        }
    }

    /// Label of an axis: cents, and more digits only where needed.
    fn label(self, value: f64) -> String {
        let text = self.text(value);
        let Some((whole, digits)) = text.split_once('.').filter(|_| self == Self::Cost) else {
            return text;
        };
        format!("{whole}.{:0<2}", digits.trim_end_matches('0'))
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Tokens => "Tokens over time",
            Self::Cost => "Cost over time",
        }
    }

    const fn id(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Cost => "cost",
        }
    }
}

/// A chart with its axes and its table.
pub fn chart(view: &View, figure: Figure) -> String {
    let starts = &view.bars.starts;
    let models: Vec<&str> = view
        .coloured
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let has_rest = view.models_in_all > models.len();
    let columns: Vec<Vec<f64>> = (0..starts.len())
        .map(|place| column(view, place, figure, has_rest))
        .collect();
    let highest = columns
        .iter()
        .map(|column| column.iter().sum())
        .fold(0.0, f64::max);
    let top = ceiling(highest);
    let (title, id) = (figure.title(), figure.id());
    let labels = [top, top / 2.0, 0.0]
        .map(|value| format!("<span>{}</span>", figure.label(value)))
        .concat();
    let times = ticks(view);
    format!(
        r#"<figure class="chart" id="chart-{id}"><h2>{title}</h2><p class="axis y" aria-hidden="true">{labels}</p><svg viewBox="0 0 {count} 100" preserveAspectRatio="none" role="img" aria-label="{title}, by model; the same figures are in the table below it"><path class="grid" d="M0 0h{count}M0 50h{count}M0 100h{count}"/>{bars}<g class="hit">{hits}</g></svg><p class="axis x" aria-hidden="true">{times}</p><details id="table-{id}"><summary>{title} as a table</summary>{table}</details></figure>"#,
        count = starts.len(),
        bars = bars(&columns, top),
        hits = hits(view, &columns, figure),
        table = table(view, &columns, figure, &models, has_rest),
    )
}

/// The legend. A model's link selects its calls.
pub fn legend(view: &View, address: &Address) -> String {
    use crate::store::series::Dimension::Model;
    let mut items = String::new();
    for (index, (model, _)) in view.coloured.iter().enumerate() {
        let href = escape(&address.with(Model, Some(model)).query());
        let _ = write!(
            items,
            r#"<li class="s{index}"><a href="{href}">{}</a>"#,
            escape(model)
        );
    }
    let rest = view.models_in_all - view.coloured.len();
    if rest > 0 {
        let rest = count(rest as i64);
        let _ = write!(items, r#"<li class="s{COLOURS}">{rest} more"#);
    }
    format!(r#"<ul class="legend" aria-label="Models in the charts">{items}</ul>"#)
}

fn column(view: &View, place: usize, figure: Figure, has_rest: bool) -> Vec<f64> {
    let coloured = view.coloured.iter();
    let mut column: Vec<f64> = coloured.map(|(_, bars)| figure.of(&bars[place])).collect();
    if has_rest {
        let all = figure.of(&view.by_bar[place]);
        column.push((all - column.iter().sum::<f64>()).max(0.0));
    }
    column
}

/// The next round number whose half is round too.
fn ceiling(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let unit = 10_f64.powf(highest.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0];
    let found = steps
        .into_iter()
        .map(|step| step * unit)
        .find(|top| *top >= highest * 0.999_999);
    found.unwrap_or(10.0 * unit)
}

/// One path per model, the first at the bottom.
fn bars(columns: &[Vec<f64>], top: f64) -> String {
    let series = columns.first().map_or(0, Vec::len);
    let mut heights = vec![0.0; columns.len()];
    let mut out = String::new();
    for index in 0..series {
        let mut path = String::new();
        for (place, column) in columns.iter().enumerate() {
            let height = column[index] / top * HEIGHT;
            // A bar below a twentieth of a unit is invisible.
            if height >= 0.05 {
                let from = heights[place];
                let _ = write!(
                    path,
                    "M{place}.1 {:.1}h.8v{:.1}h-.8z",
                    HEIGHT - from,
                    -height
                );
            }
            heights[place] += height;
        }
        let class = if index >= COLOURS { COLOURS } else { index };
        if !path.is_empty() {
            let _ = write!(out, r#"<path class="s{class}" d="{path}"/>"#);
        }
    }
    out
}

/// Invisible columns with tooltips.
fn hits(view: &View, columns: &[Vec<f64>], figure: Figure) -> String {
    let mut out = String::new();
    for (place, (start, column)) in view.bars.starts.iter().zip(columns).enumerate() {
        let sum: f64 = column.iter().sum();
        let _ = write!(
            out,
            r#"<rect x="{place}"><title>{}: {}</title></rect>"#,
            time(view, *start),
            figure.text(sum)
        );
    }
    out
}

fn table(
    view: &View,
    columns: &[Vec<f64>],
    figure: Figure,
    models: &[&str],
    has_rest: bool,
) -> String {
    let rest = has_rest.then_some("Other models");
    let heads: String = models
        .iter()
        .copied()
        .chain(rest)
        .fold(String::new(), |out, model| {
            out + "<th scope=col>" + &escape(model)
        });
    let mut rows = String::new();
    for (start, column) in view.bars.starts.iter().zip(columns) {
        let _ = write!(
            rows,
            "<tr><th scope=row>{}<td>{}",
            time(view, *start),
            figure.text(column.iter().sum())
        );
        for value in column {
            let text = if *value == 0.0 {
                "0".into()
            } else {
                figure.text(*value)
            };
            let _ = write!(rows, "<td>{text}");
        }
    }
    format!(
        r#"<div class="wide" tabindex="0" role="group" aria-label="{title} as a table"><table><caption>{title}</caption><thead><tr><th scope=col>From<th scope=col>All{heads}<tbody>{rows}</table></div>"#,
        title = figure.title()
    )
}

/// Five labels along the axis: the bars at its quarters, and its end.
fn ticks(view: &View) -> String {
    let Bars { starts, step, end } = &view.bars;
    let Some(first) = starts.first() else {
        return String::new();
    };
    let tick = |quarter: i64| {
        let at = first + (end - first) * quarter / 4;
        // A day of several is named by itself, any other time by its bar.
        let bar = view.bars.place(at).map_or(*end, |place| starts[place]);
        let at = if *step > DAY { at } else { bar };
        match *step < DAY {
            true => format!(
                r#"<time datetime="{}">{}</time>"#,
                super::address::stamp(at),
                time(view, at)
            ),
            false => format!("<span>{}</span>", time(view, at)),
        }
    };
    (0..=4).map(tick).collect()
}

/// Says that bars are days of UTC where other times are not.
pub fn note(view: &View, address: &Address) -> String {
    match view.bars_zone == address.zone {
        true => String::new(),
        false => r#"<p class="note">The days of the charts are UTC.</p>"#.to_owned(),
    }
}

/// `14:00`, `Mon 14:00` or `14 Mar`, by the length of a step.
fn time(view: &View, at: Micros) -> String {
    let format = match view.bars.step {
        ..=HOUR => "%H:%M",
        step if step < DAY => "%a %d %H:%M",
        _ => "%d %b",
    };
    clock::format_in(&view.bars_zone, at, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_that_covers_all() {
        for (highest, top) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (1.1, 1.5),
            (23.0, 25.0),
            (0.0031, 0.004),
            (7e6, 8e6),
            (9e6, 1e7),
        ] {
            assert!(
                (ceiling(highest) - top).abs() < top * 1e-9,
                "{highest}: {}",
                ceiling(highest)
            );
        }
    }

    #[test]
    fn an_axis_has_only_significant_digits() {
        for (dollars, label) in [
            (0.5, "$0.50"),
            (0.025, "$0.025"),
            (1500.0, "$1,500.00"),
            (0.0, "$0.00"),
        ] {
            assert_eq!(Figure::Cost.label(dollars), label);
        }
        assert_eq!(Figure::Tokens.label(2_500_000.0), "2.50M");
    }

    #[test]
    fn bars_are_stacked() {
        let drawn = bars(&[vec![1.0, 3.0], vec![0.0, 4.0]], 4.0);
        assert_eq!(
            drawn,
            r#"<path class="s0" d="M0.1 100.0h.8v-25.0h-.8z"/><path class="s1" d="M0.1 75.0h.8v-75.0h-.8zM1.1 100.0h.8v-100.0h-.8z"/>"#
        );
    }
}
