//! Prices of the settings and of the built-in table.

use std::cell::RefCell;

use serde_wasm_bindgen::{Error, to_value};
use wasm_bindgen::prelude::*;

use super::scalars::scalar;
use crate::pricing;

/// The prices of the settings and of the built-in table; see [`pricing::PriceBook`].
#[wasm_bindgen]
pub struct PriceBook {
    book: pricing::PriceBook,
    problems: RefCell<Vec<String>>,
}

#[wasm_bindgen]
impl PriceBook {
    /// The setting `prices` and the same of the gateway's configuration; a list of providers that are used by login alone;
    /// the table.
    #[wasm_bindgen(constructor)]
    pub fn new(prices: JsValue, openclaw: JsValue, by_login: JsValue, table: String) -> PriceBook {
        let (prices, openclaw, by_login) = (scalar(&prices), scalar(&openclaw), scalar(&by_login));
        let (book, problems) = pricing::PriceBook::new(&prices, &openclaw, &by_login, table);
        PriceBook {
            book,
            problems: RefCell::new(problems),
        }
    }

    /// What is wrong with the settings, a line each; told once.
    pub fn problems(&self) -> Vec<String> {
        self.problems.take()
    }

    /// A model's price, as `setPrice` of [`Engine`](super::engine::Engine) takes it.
    pub fn find(&self, provider: &str, model: &str) -> Result<JsValue, Error> {
        to_value(&self.book.find(provider, model))
    }
}
