module.exports = {};
module.exports.calculateMAC = () => {};
module.exports.decrypt = () => {};
module.exports.deriveSecrets = () => {};
module.exports.encrypt = () => {};
