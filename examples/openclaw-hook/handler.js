export { default } from "./hook.js";
