module.exports = {};
module.exports.calculateSignature = () => {};
module.exports.generateKeyPair = () => {};
module.exports.verifySignature = () => {};
