//! Tasks and results.

use cellnet_core::{
    fobs::{self, Document, Object},
    message::Payload,
};

use super::{Dict, Dxo, ModelError, code, dict::typed, header};

/// What servers and sites send one another: a dict with headers. Source: `apis/shareable.py`.
#[derive(Debug, Clone, PartialEq)]
pub struct Shareable(Dict);

impl Shareable {
    /// One without content.
    pub fn new() -> Self {
        Self(Dict::from_iter([(header::HEADERS, Dict::default())]))
    }

    /// A result that says that there is none.
    pub fn failure(return_code: &str, why: &str) -> Self {
        let mut shareable = Self::new();
        shareable.set_return_code(return_code);
        shareable.set_header(header::ERROR, why);
        shareable
    }

    /// The whole dict, with the headers in it.
    pub fn content(&self) -> &Dict {
        &self.0
    }

    /// The whole dict, with the headers in it, to change it.
    pub fn content_mut(&mut self) -> &mut Dict {
        &mut self.0
    }

    /// The content under a key.
    pub fn get(&self, key: &str) -> Option<&Object> {
        self.0.get(key)
    }

    /// One header; see [`header`] for their names.
    pub fn header(&self, key: &str) -> Option<&Object> {
        self.0.get(header::HEADERS)?.get(key)
    }

    /// Sets one header.
    pub fn set_header(&mut self, key: &str, value: impl Into<Object>) {
        let headers = self.0.get_mut(header::HEADERS).map(|headers| std::mem::replace(headers, Object::Nil));
        let mut headers = headers.and_then(|headers| Dict::try_from(headers).ok()).unwrap_or_default();
        headers.insert(key, value);
        self.0.insert(header::HEADERS, headers);
    }

    /// What became of the task, if it says so; see [`code`] for the names.
    pub fn return_code(&self) -> Option<&str> {
        self.header(header::RETURN_CODE)?.as_str()
    }

    /// Whether nothing is said to have gone wrong.
    pub fn is_ok(&self) -> bool {
        self.return_code().is_none_or(|said| said == code::OK)
    }

    /// Says what became of the task.
    pub fn set_return_code(&mut self, return_code: &str) {
        self.set_header(header::RETURN_CODE, return_code);
    }

    /// The name of the task.
    pub fn task_name(&self) -> Option<&str> {
        self.header(header::TASK_NAME)?.as_str()
    }

    /// The id of the task.
    pub fn task_id(&self) -> Option<&str> {
        self.header(header::TASK_ID)?.as_str()
    }

    /// The first round.
    pub fn start_round(&self) -> Option<u64> {
        self.header(header::START_ROUND)?.as_u64()
    }

    /// This round.
    pub fn current_round(&self) -> Option<u64> {
        self.header(header::CURRENT_ROUND)?.as_u64()
    }

    /// How many rounds there are.
    pub fn total_rounds(&self) -> Option<u64> {
        self.header(header::NUM_ROUNDS)?.as_u64()
    }

    /// The job.
    pub fn job_id(&self) -> Option<&str> {
        self.header(header::JOB_ID)?.as_str()
    }

    /// The site.
    pub fn site_name(&self) -> Option<&str> {
        self.header(header::SITE_NAME)?.as_str()
    }

    /// Why there is no result, if somebody said so.
    pub fn error(&self) -> Option<&str> {
        self.header(header::ERROR)?.as_str()
    }

    /// What the content is, if it is a DXO.
    pub fn dxo(&self) -> Result<Dxo, ModelError> {
        if self.header(header::CONTENT_TYPE).and_then(Object::as_str) != Some(DXO) {
            return Err(ModelError::NoDxo);
        }
        Dxo::from_dict(self.get(DXO).ok_or(ModelError::NoDxo)?.clone())
    }

    /// Puts in a DXO, and says so.
    pub fn set_dxo(&mut self, dxo: Dxo) {
        self.set_header(header::CONTENT_TYPE, DXO);
        self.0.insert(DXO, dxo.into_dict());
    }

    /// As an object to send.
    pub fn into_object(self) -> Object {
        self.into()
    }

    /// As a payload, with its arrays in it.
    pub fn payload(self) -> Payload {
        Payload::Fobs(fobs::encode(&Document::new(self.into_object())))
    }
}

impl Default for Shareable {
    fn default() -> Self {
        Self::new()
    }
}

typed!(Shareable, TYPE);

const TYPE: &str = "nvflare.apis.shareable.Shareable";
const DXO: &str = "DXO";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flare::{DataKind, testdata};

    #[test]
    fn shareables_of_the_reference_come_back_byte_for_byte() {
        for name in ["shareable_empty", "shareable_reply", "shareable_task_dxo"] {
            testdata::comes_back::<Shareable>(name);
        }
    }

    #[test]
    fn headers_are_read() {
        let task = Shareable::try_from(testdata::object("shareable_task_dxo")).unwrap();
        assert_eq!((task.task_name(), task.return_code()), (Some("train"), None));
        assert!(task.is_ok());
        assert_eq!(task.task_id(), Some("11111111-2222-4333-8444-555555555555"));
        assert_eq!((task.current_round(), task.total_rounds(), task.start_round()), (Some(0), Some(2), None));
        assert_eq!((task.job_id(), task.site_name()), (Some("job-1"), Some("site-1")));
        assert_eq!(task.dxo().unwrap().kind(), DataKind::Weights);
        let reply = Shareable::try_from(testdata::object("shareable_reply")).unwrap();
        assert_eq!(reply.dxo(), Err(ModelError::NoDxo));
        assert_eq!((reply.return_code(), reply.is_ok()), (Some("OK"), true));
        let failure = Shareable::failure(code::EXECUTION_EXCEPTION, "no data");
        assert_eq!((failure.is_ok(), failure.error()), (false, Some("no data")));
    }

    #[test]
    fn a_shareable_made_here_is_the_one_of_the_reference() {
        let mut reply = Shareable::new();
        reply.set_return_code("OK");
        reply.set_header("h", 1);
        assert_eq!(Object::from(reply), testdata::object("shareable_reply"));
    }

    #[test]
    fn headers_that_are_none_are_replaced() {
        let mut odd = Shareable::new();
        odd.content_mut().insert(header::HEADERS, 1);
        assert_eq!(odd.header("a"), None);
        odd.set_header("a", 2);
        assert_eq!(odd.header("a"), Some(&2.into()));
    }

    #[test]
    fn other_objects_are_refused() {
        let error = Shareable::try_from(testdata::object("learnable")).unwrap_err();
        assert!(error.to_string().contains("Learnable"), "{error}");
        assert!(Shareable::try_from(Object::Nil).is_err());
    }
}
