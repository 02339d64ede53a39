import { render } from "preact";
import { App } from "./app";
import { applyTheme } from "./state/theme";
import "./style/fonts.css";
import "./style/base.css";
import "./style/frame.css";
import "./style/panels.css";

applyTheme();
render(<App />, document.getElementById("app")!);
