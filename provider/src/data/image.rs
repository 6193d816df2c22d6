//! `data.weft_image`: an image by id, name, pattern or tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use tfplugin::{
    Attribute, DataSource, DataSourceContext, Diagnostic, Diagnostics, Schema, Type,
    ValidateContext, Validator, Value, async_trait,
};
use weft_model::{ImageId, Problem};
use weft_proto::v1;

use crate::agent::Agent;
use crate::checks;
use crate::kind::Kind;
use crate::kind::wire::Wire as _;

#[derive(Debug)]
pub(crate) struct Image(pub(crate) Arc<Agent>);

const NOUN: &str = "image";
const FILTERS: [&str; 4] = ["id", "name", "name_regex", "tags"];

#[async_trait]
impl DataSource for Image {
    fn type_name(&self) -> &str {
        "weft_image"
    }

    fn schema(&self) -> Schema {
        let resource = crate::image::Image::schema();
        Schema::new("An image that is registered already, by id, name, pattern or tags.")
            .subcategory("Compute")
            .attribute(
                Attribute::string("id", "By its id.").optional_computed().validate(checks::id::<
                    ImageId,
                >(
                    ImageId::PREFIX,
                    "an image",
                )),
            )
            .attribute(
                Attribute::string("name", "By its whole name.")
                    .optional_computed()
                    .validate(checks::name()),
            )
            .attribute(
                Attribute::string(
                    "name_regex",
                    "By a regular expression that some part of its name matches.",
                )
                .validate(Validator::new(
                    "must be a regular expression",
                    |value| {
                        let text = value.as_str().unwrap_or_default();
                        Regex::new(text).map(drop).map_err(|error| error.to_string())
                    },
                )),
            )
            .attribute(
                Attribute::map(
                    "tags",
                    Type::String,
                    "By tags: it has all of these, from wherever they come.",
                )
                .optional_computed()
                .validate(checks::tags()),
            )
            .attribute(Attribute::bool(
                "most_recent",
                "Whether the newest is taken where several fit; without it, that is an error.",
            ))
            .attributes(super::shown("weft_image", &resource, &FILTERS))
    }

    async fn validate(&self, ctx: &ValidateContext) -> Diagnostics {
        if FILTERS.iter().all(|name| ctx.config.get(*name).is_null()) {
            return Diagnostic::error("Which image?")
                .cause("nothing says which image is meant")
                .remedy("Set id, name, name_regex or tags")
                .into();
        }
        Diagnostics::new()
    }

    async fn read(&self, ctx: &mut DataSourceContext) -> Result<Value, Diagnostics> {
        let connection = super::connection(&self.0, NOUN)?;
        let failed = |problem: Problem| super::fail(NOUN, &problem);
        let config = &ctx.config;
        let request = v1::ListRequest {
            name: config.read::<Option<String>>("name")?.unwrap_or_default(),
            tags: config
                .read::<Option<BTreeMap<String, String>>>("tags")?
                .unwrap_or_default()
                .into_iter()
                .collect(),
        };
        let list = connection
            .call(|channel| {
                let request = request.clone();
                async move { v1::Image::client(channel).list(request).await }
            })
            .await
            .map_err(failed)?;
        let id: Option<String> = config.read("id")?;
        let pattern = config.get("name_regex").as_str().and_then(|text| Regex::new(text).ok());
        let mut fitting: Vec<v1::Image> = list
            .items
            .into_iter()
            .filter(|image| id.is_none() || id == image.metadata.as_ref().map(|m| m.id.clone()))
            .filter(|image| {
                let name = image.spec.as_ref().map_or("", |spec| spec.name.as_str());
                pattern.as_ref().is_none_or(|pattern| pattern.is_match(name))
            })
            .collect();
        // Newest first; of two of the same moment, always the same one.
        let age = |image: &v1::Image| {
            image.metadata.as_ref().map(|m| (m.created_at_unix_ms, m.id.clone()))
        };
        fitting.sort_by_key(|image| std::cmp::Reverse(age(image)));
        if fitting.len() > 1 && config.get("most_recent").as_bool() != Some(true) {
            let ids: Vec<_> = fitting.iter().filter_map(age).map(|(_, id)| id).collect();
            let cause = format!("{} images fit: {}", ids.len(), ids.join(", "));
            return Err(super::not_one(
                NOUN,
                cause,
                "Say more about it, or set most_recent = true",
            ));
        }
        let Some(wire) = fitting.into_iter().next() else {
            let remedy = "Check id, name, name_regex and tags, or register the image first";
            return Err(super::not_one(NOUN, "no image fits".to_owned(), remedy));
        };
        let values = crate::image::Image::state(wire).map_err(failed)?;
        Ok(super::answer(values, config, &DataSource::schema(self)))
    }
}
