// What a test program of Kubernetes' projects has to say: all of them are run by Ginkgo.

/** The part of Ginkgo's JSON report that is looked at. */
type Report = {
  SpecReports: {
    ContainerHierarchyTexts: string[] | null;
    LeafNodeType: string;
    LeafNodeText: string;
    State: string;
    /** Nanoseconds. */
    RunTime: number;
    Failure?: { Message: string };
    /** What the test said meanwhile. */
    CapturedGinkgoWriterOutput?: string;
  }[];
}[];

export interface Result {
  name: string;
  /** `passed`, `failed`, `skipped`, … */
  state: string;
  /** For the evidence: state, time and, of a failure, why. */
  said: string;
  /** The end of what the test said. */
  log: string;
}

/**
 * Tests that a focus leaves out are no results; one that is skipped by itself, for a reason, is.
 *
 * @param nameOf names a test by the group it stands in and its own text.
 */
export function resultsOf(json: string, nameOf: (test: { place: string; name: string }) => string): Result[] {
  const [report] = JSON.parse(json) as Report;
  return (report?.SpecReports ?? [])
    .filter(
      ({ LeafNodeType, State, Failure }) =>
        LeafNodeType === 'It' && (State !== 'skipped' || Failure?.Message),
    )
    .map((spec) => {
      const { ContainerHierarchyTexts, LeafNodeText, State, RunTime, Failure } = spec;
      const why = Failure?.Message === undefined ? '' : `: ${Failure.Message.slice(0, 600)}`;
      return {
        name: nameOf({ place: ContainerHierarchyTexts?.at(-1) ?? '', name: LeafNodeText }),
        state: State,
        said: `${State} in ${(RunTime / 1e9).toFixed(1)} s${why}`,
        log: (spec.CapturedGinkgoWriterOutput ?? '').slice(-6000),
      };
    });
}
